"""What a place is where trainings run; `trials.distributed.choose_launcher` opens one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trials.console import Console

if TYPE_CHECKING:  # which import torch
    from trials.supernet.job import Measurement, TrainingJob


@dataclass(frozen=True)
class RayPlacement:
    """How many processes Ray is to place, and where; None leaves it to what there is."""

    address: str | None = None
    """`auto` or HOST:PORT; None is a Ray of the training's own, on this machine."""
    processes: int | None = None
    gpus: int | None = None
    """For each process, 0 or 1."""

    @property
    def flags(self) -> str:
        """The command line's words for it."""
        given = (("ray-address", self.address), ("workers", self.processes), ("gpus-per-worker", self.gpus))
        return " ".join(["--engine ray", *(f"--{name} {value}" for name, value in given if value is not None)])


class Place(Protocol):
    """Runs training jobs; the first process of each speaks through the caller's console and directory."""

    is_first: bool
    """Whether this process is the one that speaks and writes."""
    number: int
    """Processes that are told apart by their callers, and must meet: those of torchrun."""
    threads: int
    """CPU threads for each process, unless a job says otherwise."""
    flags: str
    """What must be given again to carry on in the same way."""

    def wait(self) -> None:
        """Until all processes have come this far."""

    def measure(self, job: TrainingJob) -> Measurement:
        """A few steps of a job, which leave nothing. Raises `UserError` if it cannot be run here."""

    def train(self, job: TrainingJob, directory: Path, console: Console) -> Path:
        """Trains, or carries on, in a directory, and returns the supernet's file; raises what `train_supernet` does."""
