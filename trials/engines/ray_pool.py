"""The workers of a Ray engine: as many as a cluster holds, whose machines may join and leave."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError, RuntimeEnvSetupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sret_nas.errors import UserError

from .engine import RunJob
from .file_transfer import JobFiles, Payload
from .ray_calls import call_with_timeout
from .ray_worker import Worker, WorkerInfo
from .suspension import is_suspended

POLL_SECONDS = 1.0
"""Interval between two polls of the cluster's nodes."""
SUSPENSION_ANSWER_SECONDS = 30.0
"""How long a machine may take to say whether a worker is suspended; it starts a process for that."""
FIRST_WORKER_SECONDS, OTHER_WORKERS_SECONDS = 120.0, 10.0
"""How long to wait at the start for the first worker, and after that for the others."""


Nodes = dict[str, dict[str, float]]
"""The resources of live nodes, by the node's id."""


def live_nodes(name: str) -> Nodes:
    """Asks the head which nodes are alive, and for their resources. `name` is the cluster's in messages."""
    nodes = call_with_timeout(ray.nodes, name)
    return {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}


def room_for(needs: dict[str, float], nodes: Nodes) -> int:
    """Returns the number of workers with these CPUs and GPUs that nodes can hold if nobody else uses them."""
    positive = [(name, amount) for name, amount in needs.items() if amount > 0]
    return sum(min(math.floor(node.get(name, 0) / amount) for name, amount in positive) for node in nodes.values())


def require_room(needs: dict[str, float], nodes: Nodes, name: str) -> None:
    """Raises `UserError` if no node has room for a worker. `name` is the cluster's in the message."""
    if room_for(needs, nodes) == 0:
        has = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes.values())
        raise UserError(
            f"a trial needs {needs['CPU']:g} CPUs and {needs['GPU']:g} GPUs, which no machine of {name} has "
            f"(there: {has or 'none'}): lower --threads or --gpus-per-trial, or add machines"
        )


@dataclass
class PoolJob:
    """A job with its input and output files."""

    job_id: int
    payload: Payload
    files: JobFiles | None
    time_limit: float | None
    false_starts: int = 0
    """Workers that died before they reported its start."""


@dataclass(eq=False)
class PoolWorker:
    """The driver's view of a worker, with references to its pending answers."""

    actor: Any
    starting: Any
    """Reference to its `WorkerInfo`, which is ready once it has started."""
    node_id: str | None
    """The node on which it runs, or ran the worker that it replaces; None until it is placed."""
    info: WorkerInfo | None = None
    job: PoolJob | None = None
    begun: Any = None
    report: Any = None
    """References that are ready at the start and at the end of its job."""
    deadline: float = math.inf
    """When its job reaches the time limit, on the monotonic clock."""
    was_suspended: bool = False
    """Whether the driver was suspended during its job, and most likely its worker as well."""

    @property
    def is_idle(self) -> bool:
        return self.info is not None and self.job is None

    @property
    def awaited(self) -> Any:
        """The reference to its next answer; None if it is idle."""
        return self.starting if self.info is None else self.report

    def start(self, job: PoolJob) -> None:
        self.job, self.was_suspended = job, False
        self.begun, self.report = self.actor.begin.remote(), self.actor.run.remote(job.payload, job.files)
        self.deadline = math.inf if job.time_limit is None else time.monotonic() + job.time_limit

    def set_idle(self) -> None:
        """Clears the job after its end."""
        self.job = self.begun = self.report = None
        self.deadline = math.inf


class Pool:
    """Keeps up to `num_workers` workers, or as many as there is room for. Each has the CPUs and GPUs in `needs`."""

    def __init__(self, run_job: RunJob, num_workers: int | None, needs: dict[str, float], name: str) -> None:
        """Requests workers. Raises `UserError` if no machine has room for one. `name` is the cluster's in messages."""
        self.workers: list[PoolWorker] = []
        self._run_job, self._num_workers, self._needs, self._name = run_job, num_workers, needs, name
        self._actor_class: Any = ray.remote(Worker)
        self.poll_nodes()
        require_room(needs, self._nodes, name)
        self._fill()

    def refresh(self) -> None:
        """Polls the nodes if that is due, drops idle workers on lost nodes, and requests missing workers."""
        if time.monotonic() - self._polled < POLL_SECONDS:
            return
        self.poll_nodes()
        for worker in [*self.workers]:
            if worker.is_idle and not self.is_here(worker):
                self.drop(worker)
        self._fill()

    def poll_nodes(self) -> None:
        """Asks the head which nodes are alive, and for their resources."""
        self._nodes: Nodes = live_nodes(self._name)
        self._polled = time.monotonic()

    def is_here(self, worker: PoolWorker) -> bool:
        """Returns whether a worker's node is alive."""
        return worker.node_id in self._nodes

    def replace(self, worker: PoolWorker, is_reachable: bool = True) -> None:
        """Ends a worker, and starts another if its node is alive and reachable."""
        self.drop(worker)
        if is_reachable and self.is_here(worker):
            self._start_worker(worker.node_id)

    def drop(self, worker: PoolWorker) -> None:
        """Ends a worker and removes it from the pool."""
        self.workers.remove(worker)
        call_with_timeout(partial(ray.kill, worker.actor), self._name)

    def is_suspended(self, worker: PoolWorker) -> bool:
        """Returns whether a worker's process is stopped, asked on its machine; False if there is no answer in time."""
        assert worker.info is not None
        here = NodeAffinitySchedulingStrategy(worker.info.node_id, soft=False)
        answer = ray.remote(is_suspended).options(num_cpus=0, scheduling_strategy=here).remote(worker.info.process_id)
        try:
            return bool(ray.get(answer, timeout=SUSPENSION_ANSWER_SECONDS))
        except RayError:
            return False

    def release(self) -> None:
        """Ends all workers. The next refresh starts new ones."""
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
        """Records the info of a worker that has started, or drops one that could not start.

        Raises `UserError` if no worker can start there at all, for example because its environment cannot be set up.
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
        return room_for(self._needs, self._nodes)

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


def reason_of(error: Exception | str) -> str:
    """Returns the reason in an error of Ray, or in its text: its last line, without the list of common causes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    return reason.partition(" Some common causes include")[0].rpartition("Worker exit detail: ")[2]
