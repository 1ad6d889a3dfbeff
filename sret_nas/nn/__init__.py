"""The SReT network and its supernet in PyTorch: layers, weights files, public checkpoints, traced FLOPs, timings."""
