"""The local engine: worker processes on this machine, started once and reused, connected by pipes.

A worker is replaced if it dies, or if its job raises an exception, runs out of memory or exceeds its time limit. Only
its own job is lost. Workers ignore Ctrl-C, which the driver handles, and end by themselves when the driver is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from sret_nas.errors import UserError

from .engine import Engine, Outcome, RunJob
from .failures import suspended, timed_out
from .local_worker import serve
from .results import Failure
from .suspension import MAX_OVERSLEEP, is_suspended

EXIT_SECONDS = 2.0
"""How long to wait for the exit code of a worker whose pipe is closed."""
SUSPENSION_CHECK_SECONDS = 1.0
"""Between two looks at whether a worker with a time limit is suspended."""
MAX_WAIT = 3600.0
"""Longest single wait in seconds: the system call takes milliseconds in 31 bits."""

_CONTEXT = multiprocessing.get_context("spawn")  # a fork of a process with threads (torch, CUDA) may hang

_STARTING = threading.Lock()
"""Held while a worker starts: another thread would take the module in its place for the main one, and put it back."""


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    job_id: int | None = None
    time_limit: float | None = None
    """Time limit of its job in seconds."""
    started: float = 0.0
    """When its job was started, on the monotonic clock."""
    was_suspended: bool = False
    """Whether it was seen suspended (SIGSTOP, a laptop's lid) during its job."""

    @property
    def seconds_left(self) -> float | None:
        """The seconds until its job reaches the time limit; None without a limit."""
        return None if self.time_limit is None else max(0.0, self.started + self.time_limit - time.monotonic())


class LocalEngine(Engine):
    """Runs `run_job` in `num_workers` processes. It must be importable by name, since workers are new processes."""

    def __init__(self, run_job: RunJob, num_workers: int) -> None:
        if num_workers < 1:
            raise ValueError(f"num_workers must be at least 1, got {num_workers}")
        self._run_job = run_job
        self._workers = [self._start_worker() for _ in range(num_workers)]

    @property
    def capacity(self) -> int:
        return len(self._workers)

    def _start_worker(self) -> _Worker:
        ours, theirs = _CONTEXT.Pipe()
        arguments = pickle.dumps(self._run_job), theirs, os.getpid()
        process = _CONTEXT.Process(target=serve, args=arguments, daemon=True)
        # A child inherits the signal mask. With SIGINT blocked, a terminal's Ctrl-C cannot end a worker that is still
        # starting and has no handler yet. Starting Python's resource tracker, which the first worker would do, unblocks
        # SIGINT, so it is started before.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with _main_module_hidden(self._run_job):
                process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        return _Worker(process, ours)

    def submit(self, job_id: int, payload: dict[str, Any], time_limit: float | None = None) -> None:
        """Starts a job in a free worker. Raises `RuntimeError` if there is none."""
        worker = next((worker for worker in self._workers if worker.job_id is None), None)
        if worker is None:
            raise RuntimeError(f"all {self.capacity} workers are busy")
        if not worker.process.is_alive():  # it died idle, e.g. killed from outside
            worker = self._replace(worker)
        worker.job_id, worker.time_limit, worker.started = job_id, time_limit, time.monotonic()
        worker.was_suspended = False
        with contextlib.suppress(BrokenPipeError):  # it died this very moment: `wait` sees that and reports it
            worker.connection.send(payload)

    def wait(self) -> list[Outcome]:
        while busy := {worker.connection: worker for worker in self._workers if worker.job_id is not None}:
            left = [seconds for worker in busy.values() if (seconds := worker.seconds_left) is not None]
            timeout, before = min([*left, SUSPENSION_CHECK_SECONDS if left else MAX_WAIT]), time.monotonic()
            ready = wait(list(busy), timeout=timeout)
            if ready:
                return [self._collect(busy[connection]) for connection in ready]  # type: ignore[index]
            overslept = time.monotonic() - before > timeout + MAX_OVERSLEEP
            for worker in busy.values():
                worker.was_suspended |= overslept or is_suspended(worker.process.pid)
            overdue = [worker for worker in busy.values() if worker.seconds_left == 0]
            if overdue:
                return [self._end_overdue(worker) for worker in overdue]
        return []

    def _end_overdue(self, worker: _Worker) -> Outcome:
        assert worker.job_id is not None
        assert worker.time_limit is not None
        _end(worker.process)
        self._replace(worker)
        failure = suspended(worker.time_limit) if worker.was_suspended else timed_out(worker.time_limit)
        return Outcome(worker.job_id, failure=failure)

    def _collect(self, worker: _Worker) -> Outcome:
        assert worker.job_id is not None
        job_id, worker.job_id = worker.job_id, None
        try:
            result, failure = worker.connection.recv()
        except (EOFError, OSError):  # `OSError`: its end came in the midst of a result
            worker.process.join(EXIT_SECONDS)
            failure = Failure(cause="worker died", message=_describe_exit(worker.process.exitcode))
            self._replace(worker)
            return Outcome(job_id, failure=failure)
        if failure is None:
            return Outcome(job_id, result)
        if failure["cause"] in ("exception", "out of memory"):  # the process may be in a bad state for the next job
            _end(worker.process)
            self._replace(worker)
        return Outcome(job_id, failure=Failure.model_validate(failure))

    def _replace(self, dead: _Worker) -> _Worker:
        dead.connection.close()
        fresh = self._start_worker()
        self._workers[self._workers.index(dead)] = fresh
        return fresh

    def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
        self._workers.clear()


def _end(process: SpawnProcess) -> None:
    """Kills a worker. It has nothing to clean up, and it writes files atomically."""
    process.kill()
    process.join()


@contextlib.contextmanager
def _main_module_hidden(run_job: RunJob) -> Iterator[None]:
    """Spares workers that are started here the driver's main module, unless what they run is defined there.

    They would import it: in vain where it has no file (standard input, a notebook), and where it is a script without
    `if __name__ == "__main__"`, it would start the search again in each of them. Raises `UserError` if they need one
    that cannot be imported.
    """
    with _STARTING:
        main = sys.modules["__main__"]
        if run_job.__module__ == "__main__":
            if main.__spec__ is None and not Path(getattr(main, "__file__", "")).is_file():
                raise UserError("worker processes cannot import what is defined in a notebook or on standard input")
            yield
            return
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _describe_exit(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        number = -exit_code
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        hint = " (often: the system ran out of memory)" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}"
    return f"the worker process ended with exit code {exit_code}"
