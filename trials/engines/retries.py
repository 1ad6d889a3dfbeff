"""Jobs that are tried again where the machine failed them, and how long they may take.

A job whose worker died or ran out of memory may do well the next time; one that diverged, was refused, raised an
exception or took too long would do so again. What ran out of memory is tried again with nothing beside it, and so is
whatever has but one attempt left: a worker that the system killed was often killed for its memory.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .engine import Engine, Outcome
from .messages import Failure, Job

MAX_RETRIES = 2
"""So a job is tried three times at most."""
RETRYABLE_CAUSES = frozenset({"worker died", "out of memory"})
"""Causes that are no fault of the job's own."""

LIMIT_OVER_EXPECTED = 20
"""The most expensive network, trained at several depths a step, can take several times the mean; so can a busy
machine."""
MIN_LIMIT = 600.0
"""Seconds; a worker's start, its imports and the reading of images are in no expectation."""


def should_retry(failures: Sequence[Failure]) -> bool:
    """Whether a job whose attempts all failed, the last one last, is to be tried once more."""
    return failures[-1].cause in RETRYABLE_CAUSES and len(failures) <= MAX_RETRIES


def needs_exclusive(failures: Sequence[Failure]) -> bool:
    """Whether the next attempt, after these, wants the machine for itself."""
    return len(failures) == MAX_RETRIES or any(failure.cause == "out of memory" for failure in failures)


def default_time_limit(expected_seconds: float) -> float:
    """Seconds that a job may take which is expected to take so many.

    There is a limit by default, because a job that hangs would hold up a search that nobody watches for ever; it is
    wide, because whom it ends depends on the machine's speed, and what a search finds should not.
    """
    return max(MIN_LIMIT, LIMIT_OVER_EXPECTED * expected_seconds)


@dataclass
class _Attempt:
    job_id: int
    job: Job
    time_limit: float | None
    failures: list[Failure]
    """Of the attempts before."""
    part: float = 1.0
    """How much of a whole trial the job is."""
    started: float = 0.0


@dataclass(frozen=True)
class AttemptResult:
    """The end of an attempt."""

    job_id: int
    result: dict[str, Any] | None
    failure: Failure | None
    seconds: float
    """From its start to its end, as the driver saw it."""
    will_run_again: bool


class JobQueue:
    """Runs jobs on an engine in the order in which they were added; what is tried again comes first."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[_Attempt] = deque()
        self._running: dict[int, _Attempt] = {}

    def add(
        self, job_id: int, job: Job, time_limit: float | None, failures: Sequence[Failure] = (), part: float = 1.0
    ) -> None:
        """Puts a job in the queue; `failures` are those of attempts in an earlier session."""
        self._waiting.append(_Attempt(job_id, job, time_limit, list(failures), part))

    @property
    def is_empty(self) -> bool:
        return not self._waiting and not self._running

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs."""
        return not self._running

    @property
    def running(self) -> list[tuple[float, float]]:
        """Of each running attempt how many seconds it has taken so far, and how much of a whole trial it is."""
        now = time.monotonic()
        return [(now - attempt.started, attempt.part) for attempt in self._running.values()]

    def start(self, may_start: Callable[[float], bool] = lambda part: True) -> None:
        """Starts jobs as long as the engine has room and each of them, so much of a whole trial, may."""
        while self._waiting and self._has_room(self._waiting[0]) and may_start(self._waiting[0].part):
            attempt = self._waiting.popleft()
            attempt.started = time.monotonic()
            self._engine.submit(attempt.job_id, attempt.job.model_dump(mode="json"), attempt.time_limit)
            self._running[attempt.job_id] = attempt

    def _has_room(self, attempt: _Attempt) -> bool:
        if any(needs_exclusive(other.failures) for other in self._running.values()):
            return False
        return len(self._running) < (1 if needs_exclusive(attempt.failures) else self._engine.capacity)

    def wait(self) -> list[AttemptResult]:
        """Blocks until at least one attempt ends. Returns an empty list if none is running.

        Those that a full disk ended come last, so that what else ended can be recorded before they end the search.
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
    """A result with a number that is not finite can neither be ranked nor recorded: the job diverged."""
    wrong = next((place for place in _infinite_numbers(outcome.result)), None)
    if wrong is None:
        return outcome
    return Outcome(outcome.job_id, failure=Failure(cause="diverged", message=f"the result has {wrong}"))


def _infinite_numbers(data: Any, name: str = "") -> Iterator[str]:
    """Where plain data holds numbers that are not finite, with these numbers."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _infinite_numbers(value, str(key))
    elif isinstance(data, list):
        for value in data:
            yield from _infinite_numbers(value, name)
    elif isinstance(data, float) and not math.isfinite(data):
        yield f"{name} {data}"
