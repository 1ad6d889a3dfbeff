"""The workers of a Ray engine: as many as there is room for on the machines that are there, which join and go."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError, RuntimeEnvSetupError

from sret_nas.errors import UserError
from trials.engines.engine import RunJob
from trials.engines.file_transfer import Luggage, Payload
from trials.engines.ray_calls import answer_to
from trials.engines.ray_worker import Home, Worker

LOOK_SECONDS = 1.0
"""How often to look which machines are there."""
FIRST_WORKER_SECONDS, OTHER_WORKERS_SECONDS = 120.0, 10.0
"""How long to wait for the first worker at the start, and then for those beside it."""


@dataclass
class Task:
    """A job with what travels with it."""

    job_id: int
    payload: Payload
    luggage: Luggage | None
    time_limit: float | None
    false_starts: int = 0
    """Workers that died before they told that they had come to it."""


@dataclass(eq=False)
class PoolWorker:
    """The driver's view of a worker, with references to what it will tell."""

    actor: Any
    starting: Any
    """Its home, once it has started."""
    place: str | None
    """The node where it is, or where it stands in for another; None as long as it has no place yet."""
    home: Home | None = None
    task: Task | None = None
    begun: Any = None
    report: Any = None
    """The beginning and the end of its task."""
    deadline: float = math.inf
    """When its task has taken too long, on the monotonic clock."""

    @property
    def is_idle(self) -> bool:
        return self.home is not None and self.task is None

    @property
    def awaited(self) -> Any:
        """What it will tell next; None if it has nothing to do."""
        return self.starting if self.home is None else self.report

    def start(self, task: Task) -> None:
        self.task = task
        self.begun, self.report = self.actor.begin.remote(), self.actor.run.remote(task.payload, task.luggage)
        self.deadline = math.inf if task.time_limit is None else time.monotonic() + task.time_limit

    def rest(self) -> None:
        self.task = self.begun = self.report = None
        self.deadline = math.inf


class Pool:
    """Keeps `num_workers` workers, or as many as there is room for. Each has `needs` of CPUs and GPUs for itself."""

    def __init__(self, run_job: RunJob, num_workers: int | None, needs: dict[str, float], name: str) -> None:
        """`name` is the cluster's, for people. Raises `UserError` if there is no machine for a single worker."""
        self.workers: list[PoolWorker] = []
        self._run_job, self._num_workers, self._needs, self._name = run_job, num_workers, needs, name
        self._actor_class: Any = ray.remote(Worker)
        self._nodes: dict[str, dict[str, float]] = {}
        self.look()
        if self._room == 0:
            raise UserError(self._describe_want())
        self._fill()

    def tend(self) -> None:
        """Looks which machines are there, if that was a while ago, and keeps to what it sees."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self.look()
        for worker in [*self.workers]:
            if worker.is_idle and not self.is_here(worker):
                self.drop(worker)
        self._fill()

    def look(self) -> None:
        """Learns which machines are there."""
        nodes = answer_to(ray.nodes, self._name)
        self._nodes = {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}
        self._looked = time.monotonic()

    def is_here(self, worker: PoolWorker) -> bool:
        """Whether the machine is there where a worker is or will be."""
        return worker.place in self._nodes

    def replace(self, worker: PoolWorker, is_reachable: bool = True) -> None:
        """Ends a worker. Another takes its place, if its machine is there and can be reached."""
        self.drop(worker)
        if is_reachable and self.is_here(worker):
            self._start_worker(worker.place)

    def drop(self, worker: PoolWorker) -> None:
        """Ends a worker."""
        self.workers.remove(worker)
        answer_to(partial(ray.kill, worker.actor), self._name)

    def vacate(self) -> None:
        """Ends all workers; the next look at the machines starts others."""
        for worker in [*self.workers]:
            self.drop(worker)

    def await_workers(self) -> None:
        """Waits until workers have started, longest for the first. Raises `UserError` if none does."""
        until = time.monotonic() + FIRST_WORKER_SECONDS
        while (missing := self._expected - self._num_started) > 0 and time.monotonic() < until:
            self._fill()
            starting = {worker.starting: worker for worker in self.workers if worker.home is None}
            for news in ray.wait(list(starting), num_returns=min(missing, len(starting)), timeout=LOOK_SECONDS)[0]:
                self.greet(starting[news])
            if self._num_started > 0:
                until = min(until, time.monotonic() + OTHER_WORKERS_SECONDS)
        if self._num_started == 0:
            waited = f"within {FIRST_WORKER_SECONDS:g} s"
            raise UserError(f"no worker was started on {self._name} {waited}: do others use all of it?")

    @property
    def _expected(self) -> int:
        return min(self._num_workers or self._room, self._room)

    @property
    def _num_started(self) -> int:
        return sum(worker.home is not None for worker in self.workers)

    def greet(self, worker: PoolWorker) -> None:
        """Learns where a worker is that has started; one that could not, say because its machine died, is dropped.

        Raises `UserError` if none can start.
        """
        try:
            worker.home = ray.get(worker.starting)
            worker.place = worker.home.node_id
        except RayError as error:
            self.drop(worker)
            if isinstance(error, RuntimeEnvSetupError) or getattr(error, "actor_init_failed", False):
                raise UserError(f"workers cannot be started on {self._name}: {one_line(error)}") from None

    @property
    def _room(self) -> int:
        """Workers that the machines can hold if nobody else uses them."""
        needs = [(name, amount) for name, amount in self._needs.items() if amount > 0]
        return sum(
            min(math.floor(node.get(name, 0) / amount) for name, amount in needs) for node in self._nodes.values()
        )

    def _fill(self) -> None:
        """Asks for workers that are missing, also where there is no room yet: by that a cluster grows that can."""
        wanted = self._num_workers or max(1, self._room)
        homeless = [worker for worker in self.workers if not self.is_here(worker) and worker.task is None]
        for worker in homeless[: max(0, len(self.workers) - wanted)]:
            self.drop(worker)
        while len(self.workers) < wanted:
            self._start_worker()

    def _start_worker(self, place: str | None = None) -> None:
        options = {"num_cpus": self._needs["CPU"], "num_gpus": self._needs["GPU"], "max_restarts": 0}
        actor = self._actor_class.options(**options).remote(self._run_job)
        self.workers.append(PoolWorker(actor, actor.home.remote(), place))

    def _describe_want(self) -> str:
        has = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in self._nodes.values())
        return (
            f"a trial is to have {self._needs['CPU']:g} CPUs and {self._needs['GPU']:g} GPUs, which no machine of "
            f"{self._name} has (there: {has or 'none'}): lower --threads or --gpus-per-trial, or add machines"
        )


def one_line(error: Exception) -> str:
    """The line of what Ray says where the reason stands, without its guesses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    return reason.partition(" Some common causes include")[0].rpartition("Worker exit detail: ")[2]
