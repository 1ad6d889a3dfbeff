"""A process of a training that Ray has placed: what torchrun's would do, in an actor.

It trains in a thread, so that meanwhile another can tell how it goes. It shares no files with the driver: images and
checkpoint come with the job, and what the first process writes is fetched from its outbox.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray

from trials.console import Console
from trials.data import PreparedData
from trials.distributed.output_stream import News, Outbox
from trials.distributed.processes import Processes, process_group
from trials.engines.failures import failure_of
from trials.engines.file_transfer import Luggage
from trials.engines.messages import Failure
from trials.engines.node_cache import NodeCache, default_folder
from trials.engines.ray_worker import Home
from trials.interruption import interrupt_threads
from trials.supernet.job import Measurement, TrainingJob
from trials.supernet.state import CHECKPOINT

CONCURRENCY = 4
"""Calls that a member takes at once: it trains, tells news, and is asked whether it is there and to stop."""

_DATA = ("data_dir",)
_SIOCGIFADDR = 0x8915
"""Linux's question for an interface's address."""


@dataclass(frozen=True)
class Ending:
    """How a job ended in one process: well, interrupted, or with a failure."""

    is_interrupted: bool = False
    failure: Failure | None = None
    measurement: Measurement | None = None


class Member:
    """One of several processes, which learns its rank when all are there."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sret-nas-training-")
        self._directory = Path(self._folder.name)
        self._outbox = Outbox(self._directory)
        self._group = ExitStack()
        self._processes: Processes | None = None

    def home(self) -> Home:
        return Home(os.getpid(), socket.gethostname(), ray.get_runtime_context().get_node_id())

    def meeting_point(self) -> tuple[str, int]:
        """Address and free port of this machine, where the first process awaits the others."""
        with socket.socket() as listener:
            listener.bind(("", 0))
            return _own_address(), int(listener.getsockname()[1])

    def join(self, rank: int, number: int, meeting_point: tuple[str, int], device: str) -> Failure | None:
        """Meets the others, who must be asked at the same time. What torchrun would say, the environment says."""
        host, port = meeting_point
        said = {"RANK": rank, "WORLD_SIZE": number, "LOCAL_RANK": 0, "MASTER_ADDR": host, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in said.items()})
        # gloo would ask the machine's name for an address, which many systems answer with one that only they can reach
        interface = _interface_of(_own_address())
        if interface is not None:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        try:
            self._processes = self._group.enter_context(process_group(device))
        except Exception as error:
            return failure_of(error)
        return None

    def measure(self, job: TrainingJob, luggage: Luggage | None) -> Ending:
        assert self._processes is not None
        processes = self._processes
        with _images(job, luggage) as data:
            return _ending(lambda: job.measure(data, processes))

    def train(self, job: TrainingJob, luggage: Luggage | None, checkpoint: bytes | None) -> Ending:
        """Trains from the checkpoint on, or from the beginning."""
        assert self._processes is not None
        if checkpoint is not None:
            (self._directory / CHECKPOINT).write_bytes(checkpoint)
        self._outbox = Outbox(self._directory)
        console = self._outbox.console if self._processes.is_first else Console(quiet=True)

        def train() -> None:
            with _images(job, luggage) as data:
                job.train(self._directory, data, console)

        return _ending(train)

    def news(self, patience: float) -> News:
        """What was said and written since the last time, after waiting so many seconds for something."""
        return self._outbox.news(patience)

    def stop(self) -> bool:
        """Has all processes end after the current step, with a checkpoint; False if they are at no step yet."""
        return interrupt_threads()

    def leave(self) -> None:
        """Removes what this process has on its machine. The others are not told: they may be gone, and it is killed."""
        self._folder.cleanup()


def _ending(run: Callable[[], Measurement | None]) -> Ending:
    try:
        return Ending(measurement=run())
    except KeyboardInterrupt:
        return Ending(is_interrupted=True)
    except Exception as error:
        return Ending(failure=failure_of(error))


@contextmanager
def _images(job: TrainingJob, luggage: Luggage | None) -> Iterator[PreparedData]:
    """The job's images, laid out on this machine if they travel."""
    if luggage is None:
        yield job.images()
        return
    with NodeCache(default_folder()).provided(luggage.parcels[_DATA], ray.get) as folder:
        yield job.images(folder)


def _own_address() -> str:
    """This machine's, by which the others of the cluster know it."""
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


def _interface_of(address: str) -> str | None:
    """The name of the network interface with an IPv4 address; None if the system does not tell."""
    if sys.platform != "linux":
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                told = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # it has no such address
                continue
            if socket.inet_ntoa(told[20:24]) == address:
                return name
    return None
