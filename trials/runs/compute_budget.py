"""What a search has spent, read off its records, and whether another trial fits into what it may spend.

Time is wall time of the search's sessions. A session lasts from its beginning, before images are prepared and the plan
is made, to its last event: what a kill leaves unrecorded is not counted, except that a supernet says how long all its
training took. GPU time is the supernet's training, times its processes, and the trials (every attempt) and finals,
times the GPUs of each.

A trial starts only if it would end inside the budget, were it to take the mean time of those that finished so far
(before any has, the time that was planned). Trials that run are let run to their end, and the finals come on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .events import (
    Event,
    FailedEvent,
    FinalEvent,
    FinishedEvent,
    HeaderEvent,
    ResumedEvent,
    RetriedEvent,
    RungEvent,
    SupernetEvent,
)


class ComputeUsage:
    """Takes in the events of a records file, from the header on, and keeps the account."""

    def __init__(self) -> None:
        self._earlier = 0.0
        """Wall time of the sessions before the last."""
        self._began = 0.0
        self._last = 0.0
        """When the last session began, and when its last event was, in seconds since the epoch."""
        self.supernet_seconds = 0.0
        self.supernet_processes = 1
        """Each on a GPU of its own."""
        self.job_seconds = 0.0
        """Of trials, all attempts, and of finals."""
        self._finished, self._finished_seconds = 0.0, 0.0
        """Trials that finished, those that came to a rung by the share of a trial that this is, and what they took."""

    def apply(self, event: Event) -> None:
        """Takes in the next event."""
        now = event.time
        if isinstance(event, HeaderEvent | ResumedEvent):
            self._earlier += self._last - self._began
            self._began = self._last = now
        self._last = max(self._last, now)  # a clock that was set back costs nothing
        match event:
            case HeaderEvent():
                self.supernet_processes = event.supernet_processes
            case SupernetEvent():
                self.supernet_seconds = event.seconds
                self._earlier += max(0.0, self.supernet_seconds - self.wall_seconds())  # sessions that were killed
            case FinishedEvent():  # records from before there were attempts tell by its result how long it was
                self._add_part(event.result.seconds if event.seconds is None else event.seconds, event.part)
            case RungEvent():
                self._add_part(event.seconds, event.part)
            case FailedEvent() | RetriedEvent():
                self.job_seconds += event.seconds
            case FinalEvent():
                self.job_seconds += event.result.seconds

    def _add_part(self, seconds: float, part: float) -> None:
        """Counts a trial that finished or came to a rung, and which part of a whole one that was."""
        self.job_seconds += seconds
        self._finished += part
        self._finished_seconds += seconds

    def wall_seconds(self, now: float | None = None) -> float:
        """Until the last event, or until `now` (seconds since the epoch) in a session that goes on."""
        return self._earlier + max(self._last, now or self._last) - self._began

    @property
    def mean_trial_seconds(self) -> float | None:
        """Of whole trials, from those that finished or came to a rung; None before any has."""
        return self._finished_seconds / self._finished if self._finished > 0 else None


@dataclass
class ComputeBudget:
    """What a search may spend, against what it has."""

    spending: ComputeUsage
    expected: float
    """Seconds of a trial, as planned."""
    time_budget: float | None
    """Seconds."""
    gpu_hours: float | None
    gpus_per_trial: float
    spent: Literal["time_budget", "gpu_hours"] | None = None
    """Which of them turned a trial away, if any did: from then on no other starts."""

    def has_room_for(self, now: float, running: Sequence[tuple[float, float]], part: float = 1.0) -> bool:
        """Whether one more trial, or a part of one, may start beside those that run: seconds so far, and parts."""
        whole = self.spending.mean_trial_seconds or self.expected
        if self.time_budget is not None and self.spending.wall_seconds(now) + part * whole > self.time_budget:
            self.spent = "time_budget"
        if self.gpu_hours is not None:
            promised = sum(max(other * whole, seconds) for seconds, other in running) + part * whole
            if self.gpu_seconds + self.gpus_per_trial * promised > 3600 * self.gpu_hours:
                self.spent = "gpu_hours"
        return self.spent is None

    @property
    def gpu_seconds(self) -> float:
        """GPU time on record."""
        supernet = self.spending.supernet_processes * self.spending.supernet_seconds
        return supernet + self.gpus_per_trial * self.spending.job_seconds

    @property
    def is_bounded(self) -> bool:
        """Whether the search may spend only so much."""
        return self.time_budget is not None or self.gpu_hours is not None
