"""The workers of a Ray engine: as many as the machines of the cluster hold, which may join and leave."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError, RuntimeEnvSetupError

from sret_nas.errors import UserError

from .engine import RunJob
from .file_transfer import JobFiles, Payload
from .ray_calls import call_with_timeout
from .ray_worker import Worker, WorkerInfo

POLL_SECONDS = 1.0
"""How often to look which machines are there."""
FIRST_WORKER_SECONDS, OTHER_WORKERS_SECONDS = 120.0, 10.0
"""How long to wait for the first worker at the start, and then for those beside it."""


@dataclass
class PoolJob:
    """A job with its input and output files."""

    job_id: int
    payload: Payload
    files: JobFiles | None
    time_limit: float | None
    false_starts: int = 0
    """Workers that died before they said that they had come to it."""


@dataclass(eq=False)
class PoolWorker:
    """The driver's view of a worker, with references to its future answers."""

    actor: Any
    starting: Any
    """Its info, once it has started."""
    node_id: str | None
    """The node where it is, or where it replaces another; None until it is on one."""
    info: WorkerInfo | None = None
    job: PoolJob | None = None
    begun: Any = None
    report: Any = None
    """The beginning and the end of its job."""
    deadline: float = math.inf
    """When its job has taken too long, on the monotonic clock."""

    @property
    def is_idle(self) -> bool:
        return self.info is not None and self.job is None

    @property
    def awaited(self) -> Any:
        """Its next answer; None if it has nothing to do."""
        return self.starting if self.info is None else self.report

    def start(self, job: PoolJob) -> None:
        self.job = job
        self.begun, self.report = self.actor.begin.remote(), self.actor.run.remote(job.payload, job.files)
        self.deadline = math.inf if job.time_limit is None else time.monotonic() + job.time_limit

    def set_idle(self) -> None:
        """Forgets the job, which has ended."""
        self.job = self.begun = self.report = None
        self.deadline = math.inf


class Pool:
    """Keeps `num_workers` workers, or as many as there is room for. Each has `needs` of CPUs and GPUs for itself."""

    def __init__(self, run_job: RunJob, num_workers: int | None, needs: dict[str, float], name: str) -> None:
        """`name` is the cluster's, for people. Raises `UserError` if there is no machine for a single worker."""
        self.workers: list[PoolWorker] = []
        self._run_job, self._num_workers, self._needs, self._name = run_job, num_workers, needs, name
        self._actor_class: Any = ray.remote(Worker)
        self._nodes: dict[str, dict[str, float]] = {}
        self.poll_nodes()
        if self._room == 0:
            raise UserError(self._describe_want())
        self._fill()

    def refresh(self) -> None:
        """Polls the nodes, unless that was just done, drops idle workers of lost ones, and adds workers."""
        if time.monotonic() - self._polled < POLL_SECONDS:
            return
        self.poll_nodes()
        for worker in [*self.workers]:
            if worker.is_idle and not self.is_here(worker):
                self.drop(worker)
        self._fill()

    def poll_nodes(self) -> None:
        """Asks which nodes are alive, and what they have."""
        nodes = call_with_timeout(ray.nodes, self._name)
        self._nodes = {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}
        self._polled = time.monotonic()

    def is_here(self, worker: PoolWorker) -> bool:
        """Returns whether the node is alive where a worker is or will be."""
        return worker.node_id in self._nodes

    def replace(self, worker: PoolWorker, is_reachable: bool = True) -> None:
        """Ends a worker, and starts another in its place if its node is alive and can be reached."""
        self.drop(worker)
        if is_reachable and self.is_here(worker):
            self._start_worker(worker.node_id)

    def drop(self, worker: PoolWorker) -> None:
        """Ends a worker."""
        self.workers.remove(worker)
        call_with_timeout(partial(ray.kill, worker.actor), self._name)

    def release(self) -> None:
        """Ends all workers; the next refresh starts others."""
        for worker in [*self.workers]:
            self.drop(worker)

    def await_workers(self) -> None:
        """Waits until workers have started, longest for the first. Raises `UserError` if none does."""
        until = time.monotonic() + FIRST_WORKER_SECONDS
        while (missing := self._expected - self._num_started) > 0 and time.monotonic() < until:
            self._fill()
            starting = {worker.starting: worker for worker in self.workers if worker.info is None}
            for started in ray.wait(list(starting), num_returns=min(missing, len(starting)), timeout=POLL_SECONDS)[0]:
                self.register(starting[started])
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
        return sum(worker.info is not None for worker in self.workers)

    def register(self, worker: PoolWorker) -> None:
        """Records the info of a worker that has started, or drops one that could not, say because its machine died.

        Raises `UserError` if none can start.
        """
        try:
            worker.info = ray.get(worker.starting)
            worker.node_id = worker.info.node_id
        except RayError as error:
            self.drop(worker)
            if isinstance(error, RuntimeEnvSetupError) or getattr(error, "actor_init_failed", False):
                raise UserError(f"workers cannot be started on {self._name}: {reason_of(error)}") from None

    @property
    def _room(self) -> int:
        """Workers that the machines can hold if nobody else uses them."""
        needs = [(name, amount) for name, amount in self._needs.items() if amount > 0]
        return sum(
            min(math.floor(node.get(name, 0) / amount) for name, amount in needs) for node in self._nodes.values()
        )

    def _fill(self) -> None:
        """Requests missing workers even without room for them, so that an autoscaling cluster grows."""
        wanted = self._num_workers or max(1, self._room)
        lost = [worker for worker in self.workers if not self.is_here(worker) and worker.job is None]
        for worker in lost[: max(0, len(self.workers) - wanted)]:
            self.drop(worker)
        while len(self.workers) < wanted:
            self._start_worker()

    def _start_worker(self, node_id: str | None = None) -> None:
        options = {"num_cpus": self._needs["CPU"], "num_gpus": self._needs["GPU"], "max_restarts": 0}
        actor = self._actor_class.options(**options).remote(self._run_job)
        self.workers.append(PoolWorker(actor, actor.info.remote(), node_id))

    def _describe_want(self) -> str:
        has = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in self._nodes.values())
        return (
            f"a trial is to have {self._needs['CPU']:g} CPUs and {self._needs['GPU']:g} GPUs, which no machine of "
            f"{self._name} has (there: {has or 'none'}): lower --threads or --gpus-per-trial, or add machines"
        )


def reason_of(error: Exception) -> str:
    """Returns the line of an error of Ray's that gives the reason, without its guesses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    return reason.partition(" Some common causes include")[0].rpartition("Worker exit detail: ")[2]
