"""The local engine: worker processes on this machine that are started once and reused, without a server.

A worker that raises reports it and lives on; a worker that dies takes only its own job with it and is replaced.
Workers leave Ctrl-C to the driver and end by themselves when the driver is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Self

from sret_nas.errors import UserError
from trials.engines import Outcome, RunJob
from trials.jobs import Failure, FailureCause

SHUTDOWN_SECONDS = 2.0
"""How long a worker that was told to end may take before it is killed."""
PARENT_CHECK_SECONDS = 1.0

_CONTEXT = multiprocessing.get_context("spawn")  # a fork of a process with threads (torch, CUDA) may hang


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    job_id: int | None = None


class LocalEngine:
    """Runs `run_job` (importable by name, so that a fresh process finds it) in `num_workers` processes."""

    def __init__(self, run_job: RunJob, num_workers: int) -> None:
        if num_workers < 1:
            raise ValueError(f"num_workers must be at least 1, got {num_workers}")
        self.capacity = num_workers
        self._run_job = run_job
        self._workers = [self._start_worker() for _ in range(num_workers)]

    def _start_worker(self) -> _Worker:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_serve, args=(self._run_job, theirs, os.getpid()), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def submit(self, job_id: int, payload: dict[str, Any]) -> None:
        """Starts a job in a free worker. Raises `RuntimeError` if there is none."""
        worker = next((worker for worker in self._workers if worker.job_id is None), None)
        if worker is None:
            raise RuntimeError(f"all {self.capacity} workers are busy")
        if not worker.process.is_alive():  # it died idle, e.g. killed from outside
            worker = self._replace(worker)
        worker.job_id = job_id
        with contextlib.suppress(BrokenPipeError):  # it died this very moment: `wait` sees that and reports it
            worker.connection.send(payload)

    def wait(self) -> list[Outcome]:
        busy = {worker.connection: worker for worker in self._workers if worker.job_id is not None}
        if not busy:
            return []
        return [self._collect(busy[connection]) for connection in wait(list(busy))]  # type: ignore[index]

    def _collect(self, worker: _Worker) -> Outcome:
        assert worker.job_id is not None
        job_id, worker.job_id = worker.job_id, None
        try:
            result, failure = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join(SHUTDOWN_SECONDS)
            failure = Failure(cause="worker died", message=_describe_exit(worker.process.exitcode))
            self._replace(worker)
            return Outcome(job_id, failure=failure)
        return Outcome(job_id, result, Failure.model_validate(failure) if failure else None)

    def _replace(self, dead: _Worker) -> _Worker:
        dead.connection.close()
        fresh = self._start_worker()
        self._workers[self._workers.index(dead)] = fresh
        return fresh

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(SHUTDOWN_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
        self._workers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _describe_exit(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = " (often: the system ran out of memory)" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}"
    return f"the worker process ended with exit code {exit_code}"


def failure_of(error: Exception) -> Failure:
    """An exception in a job as a recorded failure."""
    message = f"{type(error).__name__}: {error}"
    cause: FailureCause = "exception"
    if isinstance(error, UserError):
        cause, message = "refused", str(error)
    elif type(error).__name__ == "DivergedError":
        cause = "diverged"
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in message:
        cause = "out of memory"
    return Failure(cause=cause, message=message, traceback=traceback.format_exc())


def _serve(run_job: RunJob, connection: Connection, parent: int) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    while True:
        try:
            payload = connection.recv()
        except EOFError:
            return
        result, failure = None, None
        try:
            result = run_job(payload)
        except Exception as error:
            failure = failure_of(error).model_dump(mode="json")
        connection.send((result, failure))


def _end_with_parent(parent: int) -> None:
    """Ends this process soon after the driver is gone, even by SIGKILL and even in mid-training."""
    done = threading.Event()
    while os.getppid() == parent:
        done.wait(PARENT_CHECK_SECONDS)
    os._exit(1)
