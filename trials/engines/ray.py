"""The Ray engine: workers on this machine or on a cluster, started once and reused.

A worker is an actor, which runs one job after another. Ray's own retries are off, because retries are the caller's
decision (`trials.engines.retries`). Machines may join and leave while a search runs. They need not share files with the
driver (`trials.engines.file_transfer`).

`tune.Tuner` is not used here: it polls its searcher for jobs at fixed intervals, so that a job of a tenth of a second
would wait longer than it runs (`trials.engines.ray_tune`, benchmarks/engines).
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

from .engine import Engine, Outcome, RunJob
from .failures import failure_of, suspended, timed_out
from .file_transfer import BundleWriter, value_at
from .ray_pool import POLL_SECONDS, Pool, PoolJob, PoolWorker, reason_of
from .ray_session import Cluster, OwnRay, RaySession
from .ray_worker import Report, WorkerInfo
from .results import Failure
from .suspension import MAX_OVERSLEEP

MAX_FALSE_STARTS = 1
"""How often a job is assigned again after its worker died, without its machine, before it reported the job's start.
Most likely the worker died idle. But the last messages of a dying process are lost, so that a job which kills its
worker at once looks the same, and must not be tried for ever."""


class RayEngine(Engine):
    """Runs `run_job` in workers on Ray.

    Args:
        run_job: the function, importable by name.
        num_workers: the largest number of workers; None means as many as the resources allow.
        address: `auto` or HOST:PORT of a cluster; None starts a Ray on this machine.
        cpus_per_trial: CPUs of each worker.
        gpus_per_trial: GPUs of each worker, a fraction of one or a whole number.
    """

    def __init__(
        self, run_job: RunJob, num_workers: int | None = None, address: str | None = None,
        cpus_per_trial: float = 1.0, gpus_per_trial: float = 0.0,
    ) -> None:  # fmt: skip
        """Connects and starts workers. Raises `UserError` if there is no such cluster, or no room for a worker."""
        check_resources(num_workers, cpus_per_trial, gpus_per_trial)
        self._waiting: deque[PoolJob] = deque()
        self._ended: list[Outcome] = []
        self._is_closed = False
        self._session = open_session(run_job, num_workers, address, cpus_per_trial)
        try:
            self._bundle_writer = None if self._session.shares_files else BundleWriter(ray.put)
            needs = {"CPU": cpus_per_trial, "GPU": gpus_per_trial}
            self._pool = Pool(run_job, num_workers, needs, self._session.name)
            self._pool.await_workers()
            self._last_capacity = self.capacity
        except BaseException:
            self.close()
            raise

    @property
    def capacity(self) -> int:
        """The number of workers on live nodes, including those that are starting, but at least 1.

        With no worker, a job waits for one to start.
        """
        self._pool.refresh()
        self._last_capacity = max(1, sum(map(self._pool.is_here, self._pool.workers)))
        return self._last_capacity

    @property
    def _busy(self) -> list[PoolWorker]:
        return [worker for worker in self._pool.workers if worker.job is not None]

    def submit(self, job_id: int, payload: dict[str, Any], time_limit: float | None = None) -> None:
        """Starts a job, or queues it until a worker is free. Its time limit counts from its start."""
        # The capacity that the caller saw: if a machine was lost since then, the job waits.
        if len(self._waiting) + len(self._busy) + len(self._ended) >= self._last_capacity:
            raise RuntimeError(f"all {self._last_capacity} workers are busy")
        try:
            files = None if self._bundle_writer is None else self._bundle_writer.write(payload)
        except Exception as error:
            self._ended.append(Outcome(job_id, failure=failure_of(error)))
            return
        self._waiting.append(PoolJob(job_id, payload, files, time_limit))
        self._assign_jobs()

    def wait(self) -> list[Outcome]:
        while not self._ended and (self._waiting or self._busy):
            self._pool.refresh()
            self._assign_jobs()
            self._process_next_event()
            self._end_overdue()
        ended, self._ended = self._ended, []
        return ended

    def _assign_jobs(self) -> None:
        for worker in self._pool.workers:
            if self._waiting and worker.is_idle and self._pool.is_here(worker):
                worker.start(self._waiting.popleft())

    def _process_next_event(self) -> None:
        """Waits up to `POLL_SECONDS` for a worker to start or a job to end, and handles it."""
        waiting_for = {worker.awaited: worker for worker in self._pool.workers if worker.awaited is not None}
        left = min((worker.deadline for worker in self._busy), default=math.inf) - time.monotonic()
        if not waiting_for:
            time.sleep(POLL_SECONDS)
            return
        timeout, before = max(0.0, min(POLL_SECONDS, left)), time.monotonic()
        ready, _ = ray.wait(list(waiting_for), num_returns=1, timeout=timeout)
        if time.monotonic() - before > timeout + MAX_OVERSLEEP:
            for worker in self._busy:
                worker.was_suspended = True
        for reference in ready:
            worker = waiting_for[reference]
            if worker.info is None:
                self._register(worker)
            else:
                self._collect(worker)

    def _register(self, worker: PoolWorker) -> None:
        try:
            self._pool.register(worker)
        except UserError as error:
            if self._waiting:  # fail a job, so that a search ends when no worker can start any more
                self._ended.append(Outcome(self._waiting.popleft().job_id, failure=failure_of(error)))

    def _collect(self, worker: PoolWorker) -> None:
        job = worker.job
        assert job is not None
        try:
            report: Report = ray.get(worker.report)
        except RayError as error:
            # Ray declares a lost machine dead only after a while. Until then its workers are merely unavailable.
            is_reachable = not isinstance(error, ActorUnavailableError)
            self._pool.poll_nodes()
            is_lost = not is_reachable or not self._pool.is_here(worker)
            if (is_lost or job.false_starts < MAX_FALSE_STARTS) and not _has_begun(worker):
                job.false_starts += not is_lost
                self._waiting.appendleft(job)
            else:
                self._ended.append(Outcome(job.job_id, failure=_death(worker.info, error)))
            self._pool.replace(worker, is_reachable)
            return
        worker.set_idle()
        if report.failure is None:
            self._ended.append(_with_files_written(job, report))
            return
        failure = Failure.model_validate(report.failure)
        self._ended.append(Outcome(job.job_id, failure=failure))
        if failure.cause in ("exception", "out of memory"):  # the process may be in a bad state for the next job
            self._pool.replace(worker)

    def _end_overdue(self) -> None:
        for worker in self._busy:
            if worker.deadline <= time.monotonic():
                assert worker.job is not None
                assert worker.job.time_limit is not None
                was_suspended = worker.was_suspended or self._pool.is_suspended(worker)
                failure = (suspended if was_suspended else timed_out)(worker.job.time_limit)
                self._ended.append(Outcome(worker.job.job_id, failure=failure))
                self._pool.replace(worker)

    @contextmanager
    def released(self) -> Iterator[RaySession]:
        """Ends all workers, yields the connection while their CPUs and GPUs are free, and starts workers again.

        No job may be running.
        """
        self._pool.release()
        yield self._session
        self._pool.await_workers()

    def close(self) -> None:
        """Ends the connection, and with it the workers; a Ray that this engine started ends too."""
        if not self._is_closed:
            self._is_closed = True
            self._session.end()


def check_resources(num_workers: int | None, cpus_per_trial: float, gpus_per_trial: float) -> None:
    """Raises `ValueError` or `UserError` for resources that no trial can have."""
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be at least 1, got {num_workers}")
    if cpus_per_trial <= 0:
        raise UserError(f"a trial must have more than 0 CPUs, got {cpus_per_trial:g}: raise --threads")
    if gpus_per_trial < 0 or (gpus_per_trial > 1 and gpus_per_trial != int(gpus_per_trial)):
        raise UserError(f"--gpus-per-trial must be a fraction of one GPU or a whole number, got {gpus_per_trial:g}")


def open_session(run_job: RunJob, num_workers: int | None, address: str | None, cpus_per_trial: float) -> RaySession:
    """Connects to the cluster at an address, or starts a Ray on this machine with CPUs for all workers."""
    if address is not None:
        return Cluster(address, package=run_job.__module__.partition(".")[0])
    return OwnRay(None if num_workers is None else math.ceil(num_workers * cpus_per_trial))


def _has_begun(worker: PoolWorker) -> bool:
    try:
        ray.get(worker.begun, timeout=POLL_SECONDS)
    except RayError:
        return False
    return True


def _death(worker: WorkerInfo | None, error: RayError) -> Failure:
    """Describes the death of a worker in the middle of a job."""
    assert worker is not None
    who = f"the worker process {worker.process_id} on {worker.host}"
    if isinstance(error, OutOfMemoryError):
        return Failure(cause="out of memory", message=f"the memory of {worker.host} was nearly full: Ray ended {who}")
    if isinstance(error, ActorUnavailableError) or "node has died" in str(error):
        lost = f"the machine {worker.host} was lost or cannot be reached any more, and with it {who}"
        return Failure(cause="worker died", message=lost)
    known = f"{who} ended in the middle of the job: {reason_of(error)}"
    return Failure(cause="worker died", message=f"{known} It crashed, left, or was killed, often for its memory")


def _with_files_written(job: PoolJob, report: Report) -> Outcome:
    """Writes a job's output files to the paths that the driver named, and returns its outcome."""
    try:
        for key_path, content in report.outputs.items():
            write_atomically(Path(value_at(job.payload, key_path)), content)
    except OSError as error:
        return Outcome(job.job_id, failure=failure_of(error))
    return Outcome(job.job_id, report.result)
