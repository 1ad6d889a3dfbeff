"""Launcher protocol: runs a task in this process, in those of torchrun, or on Ray
(`trials.distributed.choose_launcher`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..console import Console
from .task import Measurement, Task


@dataclass(frozen=True)
class RayPlacement:
    """The processes to start on Ray, and where. None means as many as the resources allow."""

    address: str | None = None
    """`auto` or HOST:PORT of a cluster; None starts a Ray on this machine for the task alone."""
    processes: int | None = None
    gpus: int | None = None
    """GPUs of each process, 0 or 1."""

    @property
    def flags(self) -> str:
        """The command-line options for it."""
        values = (("ray-address", self.address), ("workers", self.processes), ("gpus-per-worker", self.gpus))
        return " ".join(["--engine ray", *(f"--{name} {value}" for name, value in values if value is not None)])


class Launcher(Protocol):
    """Runs tasks. The first process of each prints to the caller's console and writes to its directory."""

    is_first: bool
    """Whether this process is the one that prints and writes."""
    num_processes: int
    """Processes that run the caller's code and must wait for each other: those of torchrun, or 1."""
    world_size: int
    """Processes of each task."""
    threads: int
    """CPU threads for each process, unless a task says otherwise."""
    flags: str
    """Options to give again on the command line in order to resume in the same way."""

    def wait(self) -> None:
        """Waits until all processes have called this."""

    def measure(self, task: Task) -> Measurement:
        """Times a few steps of a task, and discards their result. Raises `UserError` if it cannot run here."""

    def train(self, task: Task, directory: Path, console: Console) -> Path:
        """Starts or resumes a task in a directory, and returns the result's file. Raises as `Task.train` does."""
