"""An engine whose jobs end as a test says, in no time or in as much as the test says, for the logic around engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from trials.engines.engine import Engine, Outcome
from trials.engines.results import Failure

End = dict[str, Any] | Failure
"""A result, or a failure."""


class Clock:
    """Stands in for the module `time` where a test decides how late it is."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    monotonic = time


class ScriptedEngine(Engine):
    """Ends its jobs one by one: the first one first, if not told otherwise.

    `play` tells how, from the payload and the attempt (from 1)."""

    def __init__(
        self, play: Callable[[dict[str, Any], int], End], capacity: int = 2, clock: Clock | None = None,
        seconds: float = 0.0, pick: Callable[[int], int] = lambda running: 0,
    ) -> None:  # fmt: skip
        """Says how jobs end. With a clock, every wait takes so many seconds of its time. `pick` says which of so many
        ends first."""
        self._play, self._capacity, self._clock, self._seconds = play, capacity, clock, seconds
        self._pick = pick
        self._running: list[tuple[int, dict[str, Any]]] = []
        self._attempts: Counter[int] = Counter()
        self.started: list[tuple[int, tuple[int, ...]]] = []
        """Of every attempt its job, and those that ran already."""
        self.limits: list[float | None] = []

    @property
    def capacity(self) -> int:
        return self._capacity

    def submit(self, job_id: int, payload: dict[str, Any], time_limit: float | None = None) -> None:
        if len(self._running) >= self._capacity:
            raise RuntimeError("no room")
        self.started.append((job_id, tuple(running for running, _ in self._running)))
        self.limits.append(time_limit)
        self._running.append((job_id, payload))

    def wait(self) -> list[Outcome]:
        if not self._running:
            return []
        if self._clock is not None:
            self._clock.now += self._seconds
        job_id, payload = self._running.pop(self._pick(len(self._running)))
        self._attempts[job_id] += 1
        end = self._play(payload, self._attempts[job_id])
        return [Outcome(job_id, failure=end) if isinstance(end, Failure) else Outcome(job_id, end)]

    def close(self) -> None:
        self._running.clear()
