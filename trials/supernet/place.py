"""Where a training runs: here, in this process or those that torchrun started, or in processes that Ray places."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console

from sret_nas.errors import UserError
from trials.engines import ray_needed

if TYPE_CHECKING:  # which import torch
    from trials.supernet.job import Measurement, TrainingJob
    from trials.supernet.processes import Processes


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


def place_for(device: str, placement: RayPlacement | None, threads: int | None = None) -> AbstractContextManager[Place]:
    """Here, unless a placement is given; `threads` are those of each process, if that is known already.

    Entered, it raises `UserError` if there is no such place, or too little of it.
    """
    if placement is None:
        return _here(device)
    if "WORLD_SIZE" in os.environ:
        raise UserError("--engine ray starts the processes of a training itself: leave torchrun out")
    with ray_needed():
        from trials.supernet.on_ray import on_ray  # half a second
    return on_ray(placement, device, threads)


class Here:
    """This process, or one of those that torchrun started."""

    flags = ""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self.is_first, self.number = processes.is_first, processes.number
        self.threads = num_cores()

    def wait(self) -> None:
        self._processes.wait()

    def measure(self, job: TrainingJob) -> Measurement:
        return job.measure(job.images(), self._processes)

    def train(self, job: TrainingJob, directory: Path, console: Console) -> Path:
        return job.train(directory, job.images(), console)


@contextmanager
def _here(device: str) -> Iterator[Place]:
    from trials.supernet.processes import joined

    with joined(device) as processes:
        yield Here(processes)


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
