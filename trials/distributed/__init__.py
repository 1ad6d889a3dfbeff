"""Runs a task in several processes, started by torchrun or Ray. Knows only the protocol in `distributed.task`."""
