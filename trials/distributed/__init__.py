"""One task in several processes, those of torchrun or of Ray. All it knows of a task is `trials.distributed.task`."""
