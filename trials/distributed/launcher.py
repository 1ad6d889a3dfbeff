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
    """How many processes Ray is to start, and where; None leaves it to what there is."""

    address: str | None = None
    """`auto` or HOST:PORT of a cluster; None starts a Ray on this machine for the task alone."""
    processes: int | None = None
    gpus: int | None = None
    """For each process, 0 or 1."""

    @property
    def flags(self) -> str:
        """The command line's words for it."""
        given = (("ray-address", self.address), ("workers", self.processes), ("gpus-per-worker", self.gpus))
        return " ".join(["--engine ray", *(f"--{name} {value}" for name, value in given if value is not None)])


class Launcher(Protocol):
    """Runs tasks; the first process of each writes to the caller's console and directory."""

    is_first: bool
    """Whether this process is the one that prints and writes."""
    number: int
    """Processes that run the caller's code and must wait for each other: those of torchrun."""
    threads: int
    """CPU threads for each process, unless a task says otherwise."""
    flags: str
    """What must be given again on the command line to carry on in the same way."""

    def wait(self) -> None:
        """Waits until all processes have come this far."""

    def measure(self, task: Task) -> Measurement:
        """Takes a few steps of a task, which leave nothing. Raises `UserError` if it cannot run here."""

    def train(self, task: Task, directory: Path, console: Console) -> Path:
        """Trains, or carries on, in a directory, and returns the result's file; raises what `Task.train` does."""
