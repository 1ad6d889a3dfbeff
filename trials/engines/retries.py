"""Retries of jobs that failed because of the machine, and time limits.

A job whose worker died or ran out of memory may succeed the next time. One that diverged, was refused, raised an
exception or took too long would fail again. After running out of memory, a job is retried with no other job beside it.
So is the last attempt of any job, because a worker that the system killed was often killed for its memory.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .engine import Engine, Outcome
from .jobs import Job
from .results import Failure

MAX_RETRIES = 2
"""Retries of a job, in addition to its first attempt."""
RETRYABLE_CAUSES = frozenset({"worker died", "out of memory", "suspended"})
"""Causes that are no fault of the job."""

LIMIT_OVER_EXPECTED = 20
"""The default time limit over the expected duration. The most expensive network, trained at several depths a step, can
take several times the mean; so can any network on a busy machine."""
MIN_LIMIT = 600.0
"""Smallest default time limit in seconds. Expected durations do not include a worker's start and reading images."""


def should_retry(failures: Sequence[Failure]) -> bool:
    """Returns whether to try a job again, given the failures of all its attempts in order."""
    return failures[-1].cause in RETRYABLE_CAUSES and len(failures) <= MAX_RETRIES


def needs_exclusive(failures: Sequence[Failure]) -> bool:
    """Returns whether the next attempt, after these failures, must run with no other job beside it."""
    return len(failures) == MAX_RETRIES or any(failure.cause == "out of memory" for failure in failures)


def default_time_limit(expected_seconds: float) -> float:
    """Returns the default time limit of a job, in seconds.

    There is a default, because a job that hangs would stop an unattended search for ever. It is generous, because
    whether a job reaches it depends on the machine's speed, which the result of a search should not depend on.
    """
    return max(MIN_LIMIT, LIMIT_OVER_EXPECTED * expected_seconds)


@dataclass
class _Attempt:
    job_id: int
    job: Job
    time_limit: float | None
    failures: list[Failure]
    """Failures of the earlier attempts."""
    fraction: float = 1.0
    """Share of a whole trial that the job runs."""
    started: float = 0.0


@dataclass(frozen=True)
class AttemptResult:
    """The result or failure of one attempt."""

    job_id: int
    result: dict[str, Any] | None
    failure: Failure | None
    seconds: float
    """From start to end, as seen by the driver."""
    will_run_again: bool


class JobQueue:
    """Runs jobs on an engine in the order in which they were added, retries first."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[_Attempt] = deque()
        self._running: dict[int, _Attempt] = {}

    def add(
        self, job_id: int, job: Job, time_limit: float | None, failures: Sequence[Failure] = (), fraction: float = 1.0
    ) -> None:
        """Adds a job to the queue; `failures` are those of attempts in an earlier session."""
        self._waiting.append(_Attempt(job_id, job, time_limit, list(failures), fraction))

    @property
    def is_empty(self) -> bool:
        return not self._waiting and not self._running

    @property
    def is_idle(self) -> bool:
        """Whether no job is running."""
        return not self._running

    @property
    def running(self) -> list[tuple[float, float]]:
        """The seconds so far of each running attempt, and its fraction of a whole trial."""
        now = time.monotonic()
        return [(now - attempt.started, attempt.fraction) for attempt in self._running.values()]

    def start(self, may_start: Callable[[float], bool] = lambda fraction: True) -> None:
        """Starts jobs while the engine has room and `may_start`, given a job's fraction of a whole trial, allows it."""
        while self._waiting and self._has_room(self._waiting[0]) and may_start(self._waiting[0].fraction):
            attempt = self._waiting.popleft()
            attempt.started = time.monotonic()
            self._engine.submit(attempt.job_id, attempt.job.model_dump(mode="json"), attempt.time_limit)
            self._running[attempt.job_id] = attempt

    def _has_room(self, attempt: _Attempt) -> bool:
        if any(needs_exclusive(other.failures) for other in self._running.values()):
            return False
        return len(self._running) < (1 if needs_exclusive(attempt.failures) else self._engine.capacity)

    def wait(self) -> list[AttemptResult]:
        """Waits until at least one attempt ends, and returns all that have. Returns an empty list if none is running.

        Those that failed because of a full disk come last, so that the others are recorded before the search ends.
        """
        ended = [self._ended(_with_finite_numbers(outcome)) for outcome in self._engine.wait()]
        return sorted(ended, key=lambda end: end.failure is not None and end.failure.cause == "disk full")

    def _ended(self, outcome: Outcome) -> AttemptResult:
        attempt = self._running.pop(outcome.job_id)
        seconds = time.monotonic() - attempt.started
        if outcome.failure is None:
            return AttemptResult(outcome.job_id, outcome.result, None, seconds, will_run_again=False)
        attempt.failures.append(outcome.failure)
        again = should_retry(attempt.failures)
        if again:
            self._waiting.appendleft(attempt)
        return AttemptResult(outcome.job_id, None, outcome.failure, seconds, will_run_again=again)


def _with_finite_numbers(outcome: Outcome) -> Outcome:
    """Turns a result with a number that is not finite, which can neither be ranked nor recorded, into a failure."""
    infinite = next(_infinite_numbers(outcome.result), None)
    if infinite is None:
        return outcome
    return Outcome(outcome.job_id, failure=Failure(cause="diverged", message=f"the result has {infinite}"))


def _infinite_numbers(data: Any, name: str = "") -> Iterator[str]:
    """Yields a description (name and value) of every number in plain data that is not finite."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _infinite_numbers(value, str(key))
    elif isinstance(data, list):
        for value in data:
            yield from _infinite_numbers(value, name)
    elif isinstance(data, float) and not math.isfinite(data):
        yield f"{name} {data}"
