"""Ray launcher: runs a task in processes that Ray starts on this machine or a cluster, and keeps its results here.

Every process is an actor that does the same as a process of torchrun, so that weights and checkpoints are the same. The
output of the first process is streamed to the driver (`trials.distributed.output_stream`). Machines need no shared
files, and if all of them are lost, only the work since the last checkpoint is lost. When a process or its machine is
lost, all processes start again from that checkpoint, at most `RETRIES` times.

Ray Train's `TorchTrainer` is not used (benchmarks/engines/placing.py): its checkpoints need a shared file system, it
ends its workers on Ctrl-C without a checkpoint, and it takes twice as long to start.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from sret_nas.errors import UserError
from sret_nas.plurals import counted

from ..console import Console, print_line
from ..engines.file_transfer import BundleWriter, JobFiles
from ..engines.ray_pool import reason_of
from ..engines.ray_session import Cluster, OwnRay, RaySession
from ..engines.ray_worker import WorkerInfo
from ..engines.results import Failure
from ..interruption import defer_interrupts
from ..lost_directory import WatchedDirectory, rescue
from ..machine import num_cores
from ..training.recipe import DivergedError
from .launcher import Launcher, RayPlacement
from .output_stream import Update
from .ray_member import CONCURRENCY, RankActor, RankResult
from .task import Measurement, Task

RETRIES = 2
"""How often a task is started again after a process was lost."""
START_SECONDS = 120.0
"""How long the processes may take to start and to join their group."""
POLL_SECONDS = 0.25
"""Longest interval between two checks for Ctrl-C and for ended processes."""
STOP_SECONDS = 5.0
"""After Ctrl-C: for the current step, its checkpoint, and sending the checkpoint to the driver."""
LAST_UPDATE_SECONDS = 2.0
"""For the last updates of the first process after the task has ended."""
ANSWER_SECONDS = 5.0
"""How long a live process may take to answer."""
LEAVE_SECONDS = 1.0
"""How long processes may take to remove their files."""


class LostError(ConnectionError):
    """Raised when processes of a task, or their machines, are lost. Not a user's error, so the exit code is 1."""


@contextmanager
def open_ray_launcher(placement: RayPlacement, device: str, threads: int | None) -> Iterator[Launcher]:
    """Joins or starts a Ray, and yields a launcher on it. Raises `UserError` if it cannot, or lacks the resources."""
    session = _session(placement, threads)
    try:
        with ray_launcher(session, placement, device, threads) as launcher:
            yield launcher
    finally:
        session.end()


def _session(placement: RayPlacement, threads: int | None) -> RaySession:
    if placement.address is not None:
        return Cluster(placement.address, package=__name__.partition(".")[0])
    return OwnRay(max(num_cores(), (placement.processes or 1) * (threads or 1)))


@contextmanager
def ray_launcher(session: RaySession, placement: RayPlacement, device: str, threads: int | None) -> Iterator[Launcher]:
    """Yields a launcher on the Ray of a session. Raises `UserError` if it lacks the resources."""
    launcher = RayLauncher(session, needs_of(session.name, placement, device, threads), device, placement.flags)
    try:
        yield launcher
    finally:
        launcher.end()


@dataclass(frozen=True)
class Needs:
    """The number of a task's processes, and the resources of each."""

    processes: int
    threads: int
    gpus: int
    """GPUs of each process."""

    @property
    def bundle(self) -> dict[str, float]:
        return {"CPU": float(self.threads)} | ({"GPU": float(self.gpus)} if self.gpus else {})


def machines() -> list[dict[str, float]]:
    """Returns the resources of each machine of the cluster, by Ray's names."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]


def needs_of(name: str, placement: RayPlacement, device: str, threads: int | None) -> Needs:
    """Returns the processes of a task and their resources, with defaults from the cluster.

    By default there is one process per GPU, or one per machine without GPUs, each with an equal share of the cores.
    Raises `UserError` if the cluster, called `name`, lacks the resources.
    """
    there = [machine for machine in machines() if machine.get("CPU", 0) >= 1]
    num_gpus = sum(int(machine.get("GPU", 0)) for machine in there)
    gpus = placement.gpus if placement.gpus is not None else int(num_gpus > 0 and device != "cpu")
    _check_gpus(gpus, num_gpus, device, name)
    usable = [machine for machine in there if machine.get("GPU", 0) >= gpus]
    processes = placement.processes or (num_gpus if gpus else len(usable))
    needs = Needs(processes, threads or _threads(usable, processes, gpus), gpus)
    room = sum(min(int(machine.get(what, 0) / amount) for what, amount in needs.bundle.items()) for machine in usable)
    if processes > room or room == 0:
        has = "; ".join(f"{machine['CPU']:g} CPUs, {machine.get('GPU', 0):g} GPUs" for machine in there)
        raise UserError(
            f"--workers {processes}, each with {counted(needs.threads, 'thread')} and {gpus} GPUs, are more than "
            f"{name} holds, which is {room} (there: {has or 'no machine with a CPU'}): lower --workers or --threads, "
            "or add machines"
        )
    return needs


def _check_gpus(gpus: int, num_gpus: int, device: str, name: str) -> None:
    if gpus > 0 and device == "cpu":
        raise UserError(f"--gpus-per-worker goes with a GPU, got {gpus} and device cpu")
    if gpus > num_gpus:
        raise UserError(f"--gpus-per-worker {gpus}: no machine of {name} has a GPU that Ray knows of; leave it out")
    if gpus == 0 and device.startswith("cuda"):
        raise UserError(f"--device {device} goes with --gpus-per-worker 1, and {name} has {num_gpus} GPUs")


def _threads(usable: list[dict[str, float]], processes: int, gpus: int) -> int:
    """Returns the cores per process on the machine with the fewest."""
    per_machine = math.ceil(processes / max(1, len(usable)))
    shares = [machine["CPU"] // (int(machine["GPU"]) if gpus else per_machine) for machine in usable]
    return max(1, int(min(shares, default=1)))


class ProcessGroup:
    """The processes of a task, started as actors and joined into one process group."""

    def __init__(self, needs: Needs, device: str, name: str) -> None:
        """Raises `UserError` if they do not start and join, `LostError` if one dies meanwhile."""
        self._reserved = placement_group([needs.bundle] * needs.processes, strategy="PACK")
        self.actors: list[Any] = []
        self.infos: list[WorkerInfo] = []
        try:
            if not self._reserved.wait(START_SECONDS):
                wanted = f"{needs.processes} processes with {needs.threads} threads and {needs.gpus} GPUs each"
                raise UserError(f"no room was free on {name} within {START_SECONDS:g} s for {wanted}")
            self._start(needs)
            self._join(device, name)
        except BaseException:
            self.end()
            raise

    def _start(self, needs: Needs) -> None:
        actor_class: Any = ray.remote(RankActor)
        for index in range(needs.processes):
            where = PlacementGroupSchedulingStrategy(self._reserved, placement_group_bundle_index=index)
            options = {"num_cpus": needs.threads, "num_gpus": needs.gpus, "scheduling_strategy": where}
            self.actors.append(actor_class.options(**options, max_restarts=0, max_concurrency=CONCURRENCY).remote())

    def _join(self, device: str, name: str) -> None:
        """Assigns ranks, consecutive ones to the same machine where possible, and joins the process group."""
        try:
            infos = ray.get([actor.info.remote() for actor in self.actors], timeout=START_SECONDS)
            order = sorted(range(len(infos)), key=lambda i: (infos[i].host, infos[i].node_id, infos[i].process_id))
            self.actors, self.infos = [self.actors[i] for i in order], [infos[i] for i in order]
            rendezvous = ray.get(self.actors[0].rendezvous.remote())
            world_size = len(self.actors)
            joining = [
                actor.join.remote(rank, world_size, rendezvous, device) for rank, actor in enumerate(self.actors)
            ]
            failures = [failure for failure in ray.get(joining, timeout=START_SECONDS) if failure is not None]
        except GetTimeoutError:
            raise UserError(
                f"processes on {name} did not start and meet within {START_SECONDS:g} s: "
                "can its machines reach each other on all ports?"
            ) from None
        except RayError as error:
            raise LostError(f"a process on {name} was lost while it started: {reason_of(error)}") from None
        if failures:
            _raise(failures[0])

    def find_dead_rank(self) -> str | None:
        """Describes the first process that does not answer any more; None if all do."""
        for rank, (actor, info) in enumerate(zip(self.actors, self.infos, strict=True)):
            try:
                ray.get(actor.info.remote(), timeout=ANSWER_SECONDS)
            except (RayError, GetTimeoutError) as error:
                who = f"process {rank} of {len(self.actors)} (pid {info.process_id} on {info.host})"
                if "node has died" in str(error) or isinstance(error, GetTimeoutError):
                    return f"{who} was lost with its machine"
                return f"{who} ended: {reason_of(error) or type(error).__name__}"
        return None

    def end(self) -> None:
        with suppress(RayError, GetTimeoutError):
            ray.get([actor.leave.remote() for actor in self.actors], timeout=LEAVE_SECONDS)
        for actor in self.actors:
            ray.kill(actor)
        remove_placement_group(self._reserved)


class RayLauncher:
    """Runs tasks in processes on a Ray. The processes are started for the first task and reused for the next."""

    is_first = True
    num_processes = 1

    def __init__(self, session: RaySession, needs: Needs, device: str, flags: str) -> None:
        self.flags, self.threads, self.world_size = flags, needs.threads, needs.processes
        self._name, self._needs = session.name, needs
        self._device = device if needs.gpus else "cpu"
        self._bundle_writer = None if session.shares_files else BundleWriter(ray.put)
        self._group: ProcessGroup | None = None

    def wait(self) -> None:
        """Does nothing: the driver is one process."""

    def measure(self, task: Task) -> Measurement:
        group, files = self._joined_group(), self._files_of(task)
        running = [actor.measure.remote(task, files) for actor in group.actors]
        measured = None
        try:
            while running:
                (ended,), running = ray.wait(running)
                result: RankResult = ray.get(ended)
                if result.failure is not None:  # do not wait for the others, which may wait for this one for ever
                    _raise(result.failure)
                measured = result.measurement
        except RayError as error:
            raise LostError(group.find_dead_rank() or reason_of(error)) from None
        assert measured is not None
        return measured

    def train(self, task: Task, directory: Path, console: Console) -> Path:
        path = directory / task.result_name
        if path.is_file():  # the task compares the result with what was asked for
            return task.train(directory, console)
        retries = 0
        while not path.is_file():
            try:
                self._attempt(task, directory, console)
            except LostError as error:
                if retries == RETRIES:
                    raise
                retries += 1
                since = "its last checkpoint" if (directory / task.checkpoint_name).is_file() else "the beginning"
                print_line(console, f"{error}; the training starts again from {since} ({retries} of {RETRIES} times)")
                self._start_again(error)
        return path

    def end(self) -> None:
        """Ends the processes, if any were started."""
        if self._group is not None:
            self._group.end()
            self._group = None

    def _joined_group(self) -> ProcessGroup:
        if self._group is None:
            self._group = ProcessGroup(self._needs, self._device, self._name)
        return self._group

    def _start_again(self, lost: LostError) -> None:
        """Starts new processes after a loss. Raises `LostError` if the cluster now lacks the resources."""
        self.end()
        try:
            self._joined_group()
        except UserError as error:
            raise LostError(f"{lost}; {error}") from None

    def _files_of(self, task: Task) -> JobFiles | None:
        if self._bundle_writer is None or not task.inputs:
            return None
        return self._bundle_writer.write(task.inputs)

    def _attempt(self, task: Task, directory: Path, console: Console) -> None:
        group, files, kept = self._joined_group(), self._files_of(task), ray.put(_kept_files(task, directory))
        with defer_interrupts() as interruptions:
            running = [actor.train.remote(task, files, kept) for actor in group.actors]
            try:
                failure = _watch(group, running, _TrainingDirectory(directory), console, interruptions)
            except RayError as error:
                if interruptions:
                    raise KeyboardInterrupt from None
                raise LostError(group.find_dead_rank() or reason_of(error)) from None
            if interruptions:
                raise KeyboardInterrupt
            if failure is not None:
                dead_rank = group.find_dead_rank() if failure.cause == "exception" else None
                if dead_rank is not None:  # the failures of the others only follow from its loss
                    raise LostError(dead_rank)
                _raise(failure)


def _kept_files(task: Task, directory: Path) -> dict[str, bytes]:
    """Returns the files from which a task resumes, by name; none if it has no checkpoint yet."""
    if not (directory / task.checkpoint_name).is_file():
        return {}
    names = (task.checkpoint_name, *task.output_names)
    return {name: (directory / name).read_bytes() for name in names if (directory / name).is_file()}


class _TrainingDirectory:
    """The directory of a training on this machine. Updates are applied as long as it is there."""

    def __init__(self, directory: Path) -> None:
        self._watched = WatchedDirectory(directory)
        self._is_lost = False

    def apply(self, update: Update, console: Console) -> None:
        """Raises `LostDirectoryError`, once, when a checkpoint comes for a directory that is gone; keeps it."""
        if self._is_lost:
            return
        directory = self._watched.path
        if update.has_checkpoint and self._watched.is_lost:
            self._is_lost = True
            raise rescue(directory, lambda folder: update.apply(folder, console))
        update.apply(directory, console)


def _watch(
    group: ProcessGroup,
    running: list[Any],
    directory: _TrainingDirectory,
    console: Console,
    interruptions: list[int],
) -> Failure | None:
    """Applies updates until all processes have ended or one has failed, and returns the failure, if any.

    Raises `RayError` if a process is lost.
    """
    first, deadline = group.actors[0], math.inf
    update, results = first.poll.remote(POLL_SECONDS), list[RankResult]()
    try:
        while running and not any(result.failure for result in results) and time.monotonic() < deadline:
            ready, _ = ray.wait([update, *running], timeout=POLL_SECONDS)
            if update in ready:
                directory.apply(ray.get(update), console)
                update = first.poll.remote(POLL_SECONDS)
            ended = [reference for reference in running if reference in ready]
            running = [reference for reference in running if reference not in ended]
            results += ray.get(ended)
            if interruptions and deadline == math.inf:
                deadline = time.monotonic() + STOP_SECONDS
                if not ray.get(
                    first.stop.remote(), timeout=STOP_SECONDS
                ):  # no process is at a step yet, so there is nothing to save
                    break
    finally:  # also after a loss: the last checkpoint may not have been sent yet
        with suppress(RayError, GetTimeoutError):
            directory.apply(ray.get(update, timeout=LAST_UPDATE_SECONDS), console)
            directory.apply(ray.get(first.poll.remote(0.0), timeout=LAST_UPDATE_SECONDS), console)
    return next((result.failure for result in results if result.failure is not None), None)


def _raise(failure: Failure) -> None:
    """Raises the failure of another process, as the exception that it would be in this one."""
    if failure.cause == "diverged":
        raise DivergedError(failure.message)
    if failure.cause == "exception":
        raise RuntimeError(f"a process of the training failed: {failure.message}\n{failure.traceback}")
    raise UserError(failure.message)
