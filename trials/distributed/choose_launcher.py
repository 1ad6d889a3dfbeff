"""Chooses where a task runs: in this process or those that torchrun started, or in processes that Ray starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sret_nas.errors import UserError

from ..console import Console
from ..engines.ray_needed import ray_needed
from ..machine import cores_per_process
from .launcher import Launcher, RayPlacement
from .task import Measurement, Task

if TYPE_CHECKING:  # which imports torch
    from .processes import Processes


def launcher_for(
    device: str, placement: RayPlacement | None, threads: int | None = None
) -> AbstractContextManager[Launcher]:
    """Returns a context manager that opens a launcher. Entering it raises `UserError` if Ray lacks the resources.

    Args:
        device: torch's name of the device, or `auto`.
        placement: what to ask of Ray; None runs tasks in this process, or in those that torchrun started.
        threads: CPU threads of each process; None leaves the number to the launcher.
    """
    if placement is None:
        return _local_launcher(device)
    if "WORLD_SIZE" in os.environ:
        raise UserError("--engine ray starts the processes of a training itself: leave torchrun out")
    with ray_needed():
        from .ray_group import open_ray_launcher  # half a second
    return open_ray_launcher(placement, device, threads)


class LocalLauncher:
    """Runs tasks in this process, or in those that torchrun started."""

    flags = ""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self.is_first, self.num_processes = processes.is_first, processes.world_size
        self.world_size = processes.world_size
        self.threads = cores_per_process()

    def wait(self) -> None:
        self._processes.wait()

    def measure(self, task: Task) -> Measurement:
        return task.measure(self._processes)

    def train(self, task: Task, directory: Path, console: Console) -> Path:
        return task.train(directory, console)


@contextmanager
def _local_launcher(device: str) -> Iterator[Launcher]:
    from .processes import process_group

    with process_group(device) as processes:
        yield LocalLauncher(processes)
