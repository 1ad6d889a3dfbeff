"""Where a training runs: here, in this process or those that torchrun started, or in processes that Ray places."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sret_nas.errors import UserError
from trials.console import Console
from trials.distributed.launcher import Place, RayPlacement
from trials.engines.ray_needed import ray_needed
from trials.machine import num_cores

if TYPE_CHECKING:  # which import torch
    from trials.distributed.processes import Processes
    from trials.supernet.job import Measurement, TrainingJob


def place_for(device: str, placement: RayPlacement | None, threads: int | None = None) -> AbstractContextManager[Place]:
    """Here, unless a placement is given; `threads` are those of each process, if that is known already.

    Entered, it raises `UserError` if there is no such place, or too little of it.
    """
    if placement is None:
        return _here(device)
    if "WORLD_SIZE" in os.environ:
        raise UserError("--engine ray starts the processes of a training itself: leave torchrun out")
    with ray_needed():
        from trials.distributed.ray_group import on_ray  # half a second
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
    from trials.distributed.processes import process_group

    with process_group(device) as processes:
        yield Here(processes)
