"""The network itself, on torch: its layers, the public checkpoints, and what it costs when it is traced and timed."""
