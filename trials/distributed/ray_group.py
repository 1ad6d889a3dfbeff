"""A training in processes that Ray places on this machine or a cluster; the driver keeps what they come to.

Every process is an actor that does what one of torchrun's does, so that weights and checkpoints are the same. Whatever
the first one says and writes comes to the driver as it happens (`trials.distributed.output_stream`): machines share no
files, and losing all of them loses no more than the time since the last checkpoint. When a process or its machine is
lost, all start again from that checkpoint, at most `RETRIES` times.

Why not Ray Train's `TorchTrainer` (benchmarks/engines/placing.py): its checkpoints need a file system that all machines
share, on Ctrl-C it ends its workers at once, without one, and it takes twice as long to start.
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
from trials.console import Console, print_line
from trials.distributed.launcher import Place, RayPlacement
from trials.distributed.ray_member import CONCURRENCY, Ending, Member
from trials.engines.file_transfer import Luggage, Packer
from trials.engines.messages import Failure
from trials.engines.ray_pool import one_line
from trials.engines.ray_session import Cluster, OwnRay, Session
from trials.engines.ray_worker import Home
from trials.interruption import defer_interrupts
from trials.machine import num_cores
from trials.supernet.job import Measurement, TrainingJob
from trials.supernet.state import CHECKPOINT
from trials.supernet.training import SUPERNET
from trials.training.recipe import DivergedError

RETRIES = 2
"""How often a training is started again whose processes were lost."""
PLACE_SECONDS = 120.0
"""How long the processes may take to start and to meet."""
LOOK_SECONDS = 1.0
"""The longest between two looks for Ctrl-C and at who has ended."""
STOP_SECONDS = 5.0
"""After Ctrl-C, for the step that runs, its checkpoint, and the way of that to the driver."""
LAST_NEWS_SECONDS = 2.0
"""For what the first process has to tell when there is no training any more."""
ANSWER_SECONDS = 5.0
"""How long a process that is there may take to say so."""
LEAVE_SECONDS = 1.0
"""How long processes may take to tidy up behind themselves."""


class LostError(ConnectionError):
    """Processes of a training, or their machines, are gone: nobody's mistake, so the command line exits with 1."""


@contextmanager
def on_ray(placement: RayPlacement, device: str, threads: int | None) -> Iterator[Place]:
    """A place on a Ray that is joined, or started, for it. Raises `UserError` if there is none, or no room in it."""
    session = _session(placement, threads)
    try:
        with placed(session, placement, device, threads) as place:
            yield place
    finally:
        session.end()


def _session(placement: RayPlacement, threads: int | None) -> Session:
    if placement.address is not None:
        return Cluster(placement.address, package="trials")
    return OwnRay(max(num_cores(), (placement.processes or 1) * (threads or 1)))


@contextmanager
def placed(session: Session, placement: RayPlacement, device: str, threads: int | None) -> Iterator[Place]:
    """A place on a Ray to which this process is connected. Raises `UserError` if there is no room in it."""
    place = _OnRay(session, needs_of(session.name, placement, device, threads), device, placement.flags)
    try:
        yield place
    finally:
        place.leave()


@dataclass(frozen=True)
class Needs:
    """What a training takes of a cluster."""

    processes: int
    threads: int
    gpus: int
    """For each process."""

    @property
    def bundle(self) -> dict[str, float]:
        return {"CPU": float(self.threads)} | ({"GPU": float(self.gpus)} if self.gpus else {})


def machines() -> list[dict[str, float]]:
    """What each machine of the cluster has, in Ray's words."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]


def needs_of(name: str, placement: RayPlacement, device: str, threads: int | None) -> Needs:
    """What is asked for, or else all GPUs, or a process for each machine, with the cores that these leave them.

    Raises `UserError` if the cluster, called `name`, does not hold it.
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
            f"--workers {processes}, each with {needs.threads} threads and {gpus} GPUs, are more than {name} holds, "
            f"which is {room} (there: {has or 'no machine with a CPU'}): lower --workers or --threads, or add machines"
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
    """Cores for each process where they are fewest."""
    each = math.ceil(processes / max(1, len(usable)))
    shares = [machine["CPU"] // (int(machine["GPU"]) if gpus else each) for machine in usable]
    return max(1, int(min(shares, default=1)))


class _Group:
    """The processes, placed and met."""

    def __init__(self, needs: Needs, device: str, name: str) -> None:
        """Raises `UserError` if they do not come together."""
        self._reserved = placement_group([needs.bundle] * needs.processes, strategy="PACK")
        self.members: list[Any] = []
        self.homes: list[Home] = []
        try:
            if not self._reserved.wait(PLACE_SECONDS):
                wanted = f"{needs.processes} processes with {needs.threads} threads and {needs.gpus} GPUs each"
                raise UserError(f"no room was free on {name} within {PLACE_SECONDS:g} s for {wanted}")
            self._start(needs)
            self._meet(device, name)
        except BaseException:
            self.end()
            raise

    def _start(self, needs: Needs) -> None:
        actor_class: Any = ray.remote(Member)
        for index in range(needs.processes):
            where = PlacementGroupSchedulingStrategy(self._reserved, placement_group_bundle_index=index)
            options = {"num_cpus": needs.threads, "num_gpus": needs.gpus, "scheduling_strategy": where}
            self.members.append(actor_class.options(**options, max_restarts=0, max_concurrency=CONCURRENCY).remote())

    def _meet(self, device: str, name: str) -> None:
        """Neighbours in rank are on one machine, as far as possible."""
        try:
            homes = ray.get([member.home.remote() for member in self.members], timeout=PLACE_SECONDS)
            order = sorted(range(len(homes)), key=lambda at: (homes[at].host, homes[at].node_id, homes[at].process_id))
            self.members, self.homes = [self.members[at] for at in order], [homes[at] for at in order]
            point = ray.get(self.members[0].meeting_point.remote())
            number = len(self.members)
            joining = [member.join.remote(rank, number, point, device) for rank, member in enumerate(self.members)]
            failures = [failure for failure in ray.get(joining, timeout=PLACE_SECONDS) if failure is not None]
        except GetTimeoutError:
            raise UserError(
                f"processes on {name} did not start and meet within {PLACE_SECONDS:g} s: "
                "can its machines reach each other on all ports?"
            ) from None
        except RayError as error:
            raise LostError(f"a process on {name} was lost while it started: {one_line(error)}") from None
        if failures:
            _raise(failures[0])

    def lost(self) -> str | None:
        """Who of them does not answer any more; None if all are there."""
        for rank, (member, home) in enumerate(zip(self.members, self.homes, strict=True)):
            try:
                ray.get(member.home.remote(), timeout=ANSWER_SECONDS)
            except (RayError, GetTimeoutError) as error:
                who = f"process {rank} of {len(self.members)} (pid {home.process_id} on {home.host})"
                if "node has died" in str(error) or isinstance(error, GetTimeoutError):
                    return f"{who} was lost with its machine"
                return f"{who} ended: {one_line(error) or type(error).__name__}"
        return None

    def end(self) -> None:
        with suppress(RayError, GetTimeoutError):
            ray.get([member.leave.remote() for member in self.members], timeout=LEAVE_SECONDS)
        for member in self.members:
            ray.kill(member)
        remove_placement_group(self._reserved)


class _OnRay:
    """Processes on a Ray, started when the first job comes, and kept for the next."""

    is_first = True
    number = 1

    def __init__(self, session: Session, needs: Needs, device: str, flags: str) -> None:
        self.flags, self.threads = flags, needs.threads
        self._name, self._needs = session.name, needs
        self._device = device if needs.gpus else "cpu"
        self._packer = None if session.shares_files else Packer(ray.put)
        self._group: _Group | None = None

    def wait(self) -> None:
        """The driver is one, and waits for nobody."""

    def measure(self, job: TrainingJob) -> Measurement:
        group, luggage = self._met(), self._packed(job)
        running = [member.measure.remote(job, luggage) for member in group.members]
        measured = None
        try:
            while running:
                (ended,), running = ray.wait(running)
                ending: Ending = ray.get(ended)
                if ending.failure is not None:  # the others may wait for this one for ever
                    _raise(ending.failure)
                measured = ending.measurement
        except RayError as error:
            raise LostError(group.lost() or one_line(error)) from None
        assert measured is not None  # all have come to the same
        return measured

    def train(self, job: TrainingJob, directory: Path, console: Console) -> Path:
        path = directory / SUPERNET
        if path.is_file():  # compares what it is with what was asked for
            return job.train(directory, job.images(), console)
        retries = 0
        while not path.is_file():
            try:
                self._attempt(job, directory, console)
            except LostError as error:
                if retries == RETRIES:
                    raise
                retries += 1
                since = "its last checkpoint" if (directory / CHECKPOINT).is_file() else "the beginning"
                print_line(console, f"{error}; the training starts again from {since} ({retries} of {RETRIES} times)")
                self._place_again(error)
        return path

    def leave(self) -> None:
        """Ends the processes."""
        if self._group is not None:
            self._group.end()
            self._group = None

    def _met(self) -> _Group:
        if self._group is None:
            self._group = _Group(self._needs, self._device, self._name)
        return self._group

    def _place_again(self, lost: LostError) -> None:
        """Raises `LostError` if there is no room any more."""
        self.leave()
        try:
            self._met()
        except UserError as error:
            raise LostError(f"{lost}; {error}") from None

    def _packed(self, job: TrainingJob) -> Luggage | None:
        return None if self._packer is None else self._packer.pack({"data_dir": str(job.data_dir)})

    def _attempt(self, job: TrainingJob, directory: Path, console: Console) -> None:
        group, luggage, kept = self._met(), self._packed(job), directory / CHECKPOINT
        checkpoint = ray.put(kept.read_bytes()) if kept.is_file() else None
        with defer_interrupts() as interruptions:
            running = [member.train.remote(job, luggage, checkpoint) for member in group.members]
            try:
                failure = _watched(group, running, directory, console, interruptions)
            except RayError as error:
                if interruptions:
                    raise KeyboardInterrupt from None
                raise LostError(group.lost() or one_line(error)) from None
            if interruptions:
                raise KeyboardInterrupt
            if failure is not None:
                lost = group.lost() if failure.cause == "exception" else None
                if lost is not None:  # what the others said is but its consequence
                    raise LostError(lost)
                _raise(failure)


def _watched(
    group: _Group, running: list[Any], directory: Path, console: Console, interruptions: list[int]
) -> Failure | None:
    """Puts down news until all have ended, or one has failed. Raises `RayError` for one that is lost."""
    first, deadline = group.members[0], math.inf
    news, endings = first.news.remote(LOOK_SECONDS), list[Ending]()
    try:
        while running and not any(ending.failure for ending in endings) and time.monotonic() < deadline:
            told, _ = ray.wait([news, *running], timeout=LOOK_SECONDS)
            if news in told:
                ray.get(news).put_down(directory, console)
                news = first.news.remote(LOOK_SECONDS)
            ended = [reference for reference in running if reference in told]
            running = [reference for reference in running if reference not in ended]
            endings += ray.get(ended)
            if interruptions and deadline == math.inf:
                deadline = time.monotonic() + STOP_SECONDS
                if not ray.get(first.stop.remote(), timeout=STOP_SECONDS):  # it is at no step yet
                    break
    finally:  # a checkpoint that was written before something was lost is not to be lost with it
        with suppress(RayError, GetTimeoutError):
            ray.get(news, timeout=LAST_NEWS_SECONDS).put_down(directory, console)
            ray.get(first.news.remote(0.0), timeout=LAST_NEWS_SECONDS).put_down(directory, console)
    return next((ending.failure for ending in endings if ending.failure is not None), None)


def _raise(failure: Failure) -> None:
    """What failed there, as if it had failed here."""
    if failure.cause == "diverged":
        raise DivergedError(failure.message)
    if failure.cause == "exception":
        raise RuntimeError(f"a process of the training failed: {failure.message}\n{failure.traceback}")
    raise UserError(failure.message)
