"""A process of a task that Ray has started: does in an actor what a process of torchrun's would.

It trains in one thread, so that others can meanwhile send updates and answer calls. It shares no files with the driver:
input files and checkpoint come with the task, and the driver polls what the first process prints and writes.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from ..console import Console
from ..engines.failures import failure_of
from ..engines.file_transfer import JobFiles
from ..engines.messages import Failure
from ..engines.node_cache import NodeCache, default_folder
from ..engines.ray_worker import WorkerInfo
from ..interruption import interrupt_threads
from .output_stream import OutputStream, Update
from .processes import Processes, process_group
from .task import Measurement, Task

CONCURRENCY = 4
"""Calls that an actor takes at once: to train, to send updates, to say that it is there, and to stop."""

DATA: tuple[str, ...] = ("data_dir",)
"""Where the files that come with a task are named."""


@dataclass(frozen=True)
class RankResult:
    """How a task ended in one process: well, interrupted, or with a failure."""

    is_interrupted: bool = False
    failure: Failure | None = None
    measurement: Measurement | None = None


class RankActor:
    """One of several processes, which learns its rank when all have started."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sret-nas-training-")
        self._directory = Path(self._folder.name)
        self._output = OutputStream(self._directory)
        self._group = ExitStack()
        self._listener: socket.socket | None = None
        self._processes: Processes | None = None

    def info(self) -> WorkerInfo:
        """Returns who and where this process is, which also says that it is still there."""
        return WorkerInfo(os.getpid(), socket.gethostname(), ray.get_runtime_context().get_node_id())

    def rendezvous(self) -> tuple[str, int]:
        """Returns the address and port where the first process listens for the others from now on."""
        host = _own_address()
        self._listener = socket.create_server((host, 0))  # not on all interfaces, as torch would listen
        return host, int(self._listener.getsockname()[1])

    def join(self, rank: int, number: int, rendezvous: tuple[str, int], device: str) -> Failure | None:
        """Joins the process group, at the same time as the others. Sets the environment variables that torchrun would.

        Returns the failure, if any.
        """
        variables = {"RANK": rank, "WORLD_SIZE": number, "LOCAL_RANK": 0}
        os.environ.update({name: str(value) for name, value in variables.items()})
        # gloo would resolve the host's name, which many systems resolve to an address that only they can reach
        interface = _interface_of(_own_address())
        if interface is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        try:
            listener = None if self._listener is None else self._listener.detach()
            store = TCPStore(*rendezvous, number, is_master=rank == 0, master_listen_fd=listener)
            self._processes = self._group.enter_context(process_group(device, store))
        except Exception as error:
            return failure_of(error)
        return None

    def measure(self, task: Task, files: JobFiles | None) -> RankResult:
        """Takes a few steps of a task, which leave nothing."""
        assert self._processes is not None
        processes = self._processes
        with _local_data(files) as data_dir:
            return _result_of(lambda: task.measure(processes, data_dir))

    def train(self, task: Task, files: JobFiles | None, checkpoint: bytes | None) -> RankResult:
        """Trains from the checkpoint on, or from the beginning."""
        assert self._processes is not None
        if checkpoint is not None:
            (self._directory / task.checkpoint_name).write_bytes(checkpoint)
        self._output = OutputStream(self._directory, replaced=(task.checkpoint_name, task.result_name))
        console = self._output.console if self._processes.is_first else Console(quiet=True)

        def train() -> None:
            with _local_data(files) as data_dir:
                task.train(self._directory, console, data_dir)

        return _result_of(train)

    def poll(self, timeout: float) -> Update:
        """Returns what was printed and written since the last poll, after up to `timeout` seconds without a line."""
        return self._output.poll(timeout)

    def stop(self) -> bool:
        """Makes all processes end after the current step, with a checkpoint; False if they are at no step yet."""
        return interrupt_threads()

    def leave(self) -> None:
        """Removes what this process has on its machine. The others are not told: they may be gone, and it is killed."""
        self._folder.cleanup()


def _result_of(run: Callable[[], Measurement | None]) -> RankResult:
    try:
        return RankResult(measurement=run())
    except KeyboardInterrupt:
        return RankResult(is_interrupted=True)
    except Exception as error:
        return RankResult(failure=failure_of(error))


@contextmanager
def _local_data(files: JobFiles | None) -> Iterator[Path | None]:
    """Yields the folder where a task's input files lie on this machine; None if they are where the task says."""
    if files is None:
        yield None
        return
    with NodeCache(default_folder()).extracted(files.bundles[DATA], ray.get) as folder:
        yield folder


def _own_address() -> str:
    """Returns the address by which the other machines of the cluster know this one."""
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


def _interface_of(address: str) -> str | None:
    """Returns the name of the network interface with an address; None if this machine has no such interface."""
    for name, addresses in psutil.net_if_addrs().items():
        if address in (found.address for found in addresses):
            return name
    return None
