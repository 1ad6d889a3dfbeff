"""The Ray engine: workers on this machine or on those of a cluster, started once and reused as the local engine's are.

A worker is an actor, whose process takes one job after the other. Ray's own ways of trying again are off: whether a
job is tried again is the caller's to say (`trials.engines.retries`). Machines may join and go while a search runs, and
need not share files with the driver (`trials.engines.file_transfer`).

Why not `tune.Tuner` with a searcher that hands out jobs: it looks for the next one at its own pace, and a job that
takes a tenth of a second would wait longer than it runs (benchmarks/engines).
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayError

from sret_nas.errors import UserError
from sret_nas.files import write_atomically
from trials.engines.engine import Engine, Outcome, RunJob
from trials.engines.failures import failure_of, timed_out
from trials.engines.file_transfer import Packer, value_at
from trials.engines.messages import Failure
from trials.engines.ray_pool import LOOK_SECONDS, Pool, PoolWorker, Task, one_line
from trials.engines.ray_session import Cluster, OwnRay, Session
from trials.engines.ray_worker import Home, Report

MAX_FALSE_STARTS = 1
"""Times that a job is handed out again, and not ended, where its worker died before it told that it had come to it, and
not with its machine. Most likely it died idle; but what a worker told in its last milliseconds is lost, so that a job
which kills at once looks alike."""


class RayEngine(Engine):
    """Runs `run_job` (importable by name) in up to `num_workers` processes, by default as many as there is room for.

    `address` is None for a Ray of this engine's own on this machine, or `auto` or HOST:PORT for a cluster.
    """

    def __init__(
        self, run_job: RunJob, num_workers: int | None = None, address: str | None = None,
        cpus_per_trial: float = 1.0, gpus_per_trial: float = 0.0,
    ) -> None:  # fmt: skip
        """Raises `UserError` if there is no such cluster, or no room for a worker."""
        _check(num_workers, cpus_per_trial, gpus_per_trial)
        self._waiting: deque[Task] = deque()
        self._ended: list[Outcome] = []
        self._is_closed = False
        self._session = _open(run_job, num_workers, address, cpus_per_trial)
        try:
            self._packer = None if self._session.shares_files else Packer(ray.put)
            needs = {"CPU": cpus_per_trial, "GPU": gpus_per_trial}
            self._pool = Pool(run_job, num_workers, needs, self._session.name)
            self._pool.await_workers()
            self._told_capacity = self.capacity
        except BaseException:
            self.close()
            raise

    @property
    def capacity(self) -> int:
        """Workers that are there, or on their way to where one was; at least one, which a job may wait for."""
        self._pool.tend()
        self._told_capacity = max(1, sum(map(self._pool.is_here, self._pool.workers)))
        return self._told_capacity

    @property
    def _busy(self) -> list[PoolWorker]:
        return [worker for worker in self._pool.workers if worker.task is not None]

    def submit(self, job_id: int, payload: dict[str, Any], time_limit: float | None = None) -> None:
        """Starts a job as soon as a worker is there; its time counts from then on."""
        # Against what the caller knows: if a machine has gone since it asked, the job waits
        if len(self._waiting) + len(self._busy) + len(self._ended) >= self._told_capacity:
            raise RuntimeError(f"all {self._told_capacity} workers are busy")
        try:
            luggage = None if self._packer is None else self._packer.pack(payload)
        except Exception as error:
            self._ended.append(Outcome(job_id, failure=failure_of(error)))
            return
        self._waiting.append(Task(job_id, payload, luggage, time_limit))
        self._hand_out()

    def wait(self) -> list[Outcome]:
        while not self._ended and (self._waiting or self._busy):
            self._pool.tend()
            self._hand_out()
            self._take_news()
            self._end_overdue()
        ended, self._ended = self._ended, []
        return ended

    def _hand_out(self) -> None:
        for worker in self._pool.workers:
            if self._waiting and worker.is_idle and self._pool.is_here(worker):
                worker.start(self._waiting.popleft())

    def _take_news(self) -> None:
        """Waits a little for the next thing that a worker has to tell."""
        teller = {worker.awaited: worker for worker in self._pool.workers if worker.awaited is not None}
        left = min((worker.deadline for worker in self._busy), default=math.inf) - time.monotonic()
        if not teller:
            time.sleep(LOOK_SECONDS)
            return
        news, _ = ray.wait(list(teller), num_returns=1, timeout=max(0.0, min(LOOK_SECONDS, left)))
        for reference in news:
            worker = teller[reference]
            if worker.home is None:
                self._greet(worker)
            else:
                self._collect(worker)

    def _greet(self, worker: PoolWorker) -> None:
        try:
            self._pool.greet(worker)
        except UserError as error:
            if self._waiting:  # so that a search ends where no worker can start any more
                self._ended.append(Outcome(self._waiting.popleft().job_id, failure=failure_of(error)))

    def _collect(self, worker: PoolWorker) -> None:
        task = worker.task
        assert task is not None
        try:
            report: Report = ray.get(worker.report)
        except RayError as error:
            # Ray takes a while to declare a machine dead that is gone; until then it is not to be counted on
            is_reachable = not isinstance(error, ActorUnavailableError)
            self._pool.look()
            is_lost = not is_reachable or not self._pool.is_here(worker)
            if (is_lost or task.false_starts < MAX_FALSE_STARTS) and not _has_begun(worker):
                task.false_starts += not is_lost
                self._waiting.appendleft(task)
            else:
                self._ended.append(Outcome(task.job_id, failure=_death(worker.home, error)))
            self._pool.replace(worker, is_reachable)
            return
        worker.rest()
        if report.failure is None:
            self._ended.append(_with_files_written(task, report))
            return
        failure = Failure.model_validate(report.failure)
        self._ended.append(Outcome(task.job_id, failure=failure))
        if failure.cause in ("exception", "out of memory"):  # what these leave behind may spoil the next job
            self._pool.replace(worker)

    def _end_overdue(self) -> None:
        for worker in self._busy:
            if worker.deadline <= time.monotonic():
                assert worker.task is not None
                assert worker.task.time_limit is not None
                self._ended.append(Outcome(worker.task.job_id, failure=timed_out(worker.task.time_limit)))
                self._pool.replace(worker)

    @contextmanager
    def vacated(self) -> Iterator[Session]:
        """The connection, while no worker is there and all that they would take is free. No job may be running."""
        self._pool.vacate()
        yield self._session
        self._pool.await_workers()

    def close(self) -> None:
        """Workers of a cluster end with the connection, a Ray of one's own ends altogether."""
        if not self._is_closed:
            self._is_closed = True
            self._session.end()


def _check(num_workers: int | None, cpus_per_trial: float, gpus_per_trial: float) -> None:
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be at least 1, got {num_workers}")
    if cpus_per_trial <= 0:
        raise UserError(f"a trial must have more than 0 CPUs, got {cpus_per_trial:g}: raise --threads")
    if gpus_per_trial < 0 or (gpus_per_trial > 1 and gpus_per_trial != int(gpus_per_trial)):
        raise UserError(f"--gpus-per-trial must be a share of one GPU or a whole number, got {gpus_per_trial:g}")


def _open(run_job: RunJob, num_workers: int | None, address: str | None, cpus_per_trial: float) -> Session:
    if address is not None:
        return Cluster(address, package=run_job.__module__.partition(".")[0])
    return OwnRay(None if num_workers is None else math.ceil(num_workers * cpus_per_trial))


def _has_begun(worker: PoolWorker) -> bool:
    try:
        ray.get(worker.begun, timeout=LOOK_SECONDS)
    except RayError:
        return False
    return True


def _death(home: Home | None, error: RayError) -> Failure:
    """What is known of the death of a worker in the middle of a job."""
    assert home is not None
    who = f"the worker process {home.process_id} on {home.host}"
    if isinstance(error, OutOfMemoryError):
        return Failure(cause="out of memory", message=f"the memory of {home.host} was nearly full: Ray ended {who}")
    if isinstance(error, ActorUnavailableError) or "node has died" in str(error):
        lost = f"the machine {home.host} was lost or cannot be reached any more, and with it {who}"
        return Failure(cause="worker died", message=lost)
    known = f"{who} ended in the middle of the job: {one_line(error)}"
    return Failure(cause="worker died", message=f"{known} It crashed, left, or was killed, often for its memory")


def _with_files_written(task: Task, report: Report) -> Outcome:
    """The outcome of a job that ended well; files that it left are put where the job was to leave them."""
    try:
        for place, content in report.left.items():
            write_atomically(Path(value_at(task.payload, place)), content)
    except OSError as error:
        return Outcome(task.job_id, failure=failure_of(error))
    return Outcome(task.job_id, report.result)
