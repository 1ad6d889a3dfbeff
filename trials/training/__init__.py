"""Training of one network: recipe, steps, losses, depth schedules, checkpoints, devices."""
