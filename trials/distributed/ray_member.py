"""One process of a task on Ray: an actor that does the same as a process of torchrun.

The task runs in one thread, so that other threads can send updates and answer calls. The actor shares no files with the
driver: input files and checkpoint are sent with the task, and the driver polls the output of the first process.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import ray

from ..console import Console
from ..engines.failures import failure_of
from ..engines.file_transfer import JobFiles, KeyPath
from ..engines.node_cache import NodeCache, default_folder
from ..engines.ray_worker import WorkerInfo
from ..engines.results import Failure
from ..interruption import interrupt_threads
from ..machine import collector_paused
from .output_stream import OutputStream, Update
from .task import Measurement, Task

if TYPE_CHECKING:
    from .processes import Processes

CONCURRENCY = 4
"""Concurrent calls of an actor: `train`, `poll`, `info` and `stop`."""


@dataclass(frozen=True)
class RankResult:
    """How a task ended in one process: with what it measured, or a failure; with neither, it was trained or stopped."""

    failure: Failure | None = None
    measurement: Measurement | None = None


class RankActor:
    """One of several processes. Its rank is assigned in `join`, after all have started."""

    def __init__(self) -> None:
        """Imports torch, and makes a folder for this process's files."""
        with collector_paused():
            from . import processes  # noqa: F401
        self._folder = tempfile.TemporaryDirectory(prefix="sret-nas-training-")
        self._directory = Path(self._folder.name)
        self._output = OutputStream(self._directory)
        self._group = ExitStack()
        self._listener: socket.socket | None = None
        self._processes: Processes | None = None

    def info(self) -> WorkerInfo:
        """Returns the identity of this process. The driver also calls this to see whether it is alive."""
        return WorkerInfo(os.getpid(), socket.gethostname(), ray.get_runtime_context().get_node_id())

    def rendezvous(self) -> tuple[str, int]:
        """Starts to listen for the other processes, and returns the address and port. Called in the first one."""
        host = _own_address()
        self._listener = socket.create_server((host, 0))  # torch itself would listen on all interfaces
        return host, int(self._listener.getsockname()[1])

    def join(self, rank: int, world_size: int, rendezvous: tuple[str, int], device: str) -> Failure | None:
        """Joins the process group, and returns the failure, if any. All processes must join at the same time.

        Args:
            rank: of this process.
            world_size: number of processes.
            rendezvous: address and port of the first one.
            device: torch's name of a device, or `auto`.

        Sets the environment variables that torchrun would set.
        """
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        from .processes import process_group

        variables = {"RANK": rank, "WORLD_SIZE": world_size, "LOCAL_RANK": 0}
        os.environ.update({name: str(value) for name, value in variables.items()})
        # By default, gloo uses the address of the host's name. On many systems that is a loopback address (127.0.1.1),
        # at which no other machine can reach it.
        interface = _interface_of(_own_address())
        if interface is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        try:
            listener = None if self._listener is None else self._listener.detach()
            store = TCPStore(*rendezvous, world_size, is_master=rank == 0, master_listen_fd=listener)
            self._processes = self._group.enter_context(process_group(device, store))
        except Exception as error:
            return failure_of(error)
        return None

    def measure(self, task: Task, files: JobFiles | None) -> RankResult:
        """Times a few steps of a task, and discards their result."""
        assert self._processes is not None
        processes = self._processes
        with _inputs_here(files) as here:
            return _result_of(lambda: task.measure(processes, here))

    def train(self, task: Task, files: JobFiles | None, kept: dict[str, bytes]) -> RankResult:
        """Trains from the files of an earlier attempt, by name, or from the beginning if there are none."""
        assert self._processes is not None
        for name, content in kept.items():
            path = self._directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        written = (*task.output_names, task.checkpoint_name, task.result_name)
        self._output = OutputStream(self._directory, replaced=written)
        console = self._output.console if self._processes.is_first else Console(quiet=True)

        def train() -> None:
            with _inputs_here(files) as here:
                task.train(self._directory, console, here)

        return _result_of(train)

    def poll(self, timeout: float) -> Update:
        """Returns the output since the last poll, after waiting up to `timeout` seconds for a line."""
        return self._output.poll(timeout)

    def stop(self) -> bool:
        """Makes the task stop after the current step, with a checkpoint. Returns False if no step has begun yet.

        One process is enough: they agree on it after every step (`Processes.any`).
        """
        return interrupt_threads()

    def leave(self) -> None:
        """Removes this process's files. Does not leave the group: that could wait for lost processes."""
        self._folder.cleanup()


def _result_of(run: Callable[[], Measurement | None]) -> RankResult:
    try:
        return RankResult(measurement=run())
    except KeyboardInterrupt:
        return RankResult()  # the driver asked for it in `stop`, and knows
    except Exception as error:
        return RankResult(failure=failure_of(error))


@contextmanager
def _inputs_here(files: JobFiles | None) -> Iterator[Mapping[KeyPath, Path]]:
    """Yields this machine's copies of a task's input files; none if the task's own are on this machine."""
    bundles = {} if files is None else files.bundles
    cache = NodeCache(default_folder())
    with ExitStack() as stack:
        yield {path: stack.enter_context(cache.extracted(bundle, ray.get)) for path, bundle in bundles.items()}


def _own_address() -> str:
    """Returns this machine's address in the cluster."""
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


def _interface_of(address: str) -> str | None:
    """Returns the name of the network interface with an address, or None."""
    for name, addresses in psutil.net_if_addrs().items():
        if address in (interface_address.address for interface_address in addresses):
            return name
    return None
