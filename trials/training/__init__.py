"""How one network is trained: recipe, steps, losses, depth schedules, checkpoints, devices."""
