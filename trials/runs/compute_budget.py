"""The compute that a search has used, and whether its budget has room for another trial.

Usage is computed from the events of the records. Wall time is the sum over the search's sessions. A session lasts from
its beginning, before images are prepared and the plan is made, to its last event. Time that a kill left unrecorded is
not counted, except for the supernet, which records how long all its training took. GPU time is the supernet's training
times its processes, plus trials (every attempt) and finalists times the GPUs of each.

A trial starts only if it is expected to end within the budget. Its expected time is the mean of the trials that have
finished or, before any has, the planned time. Running trials are never cut off, and the finalists come on top.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
    """Sums up the time in the events of a records file, which `apply` takes from the header on."""

    def __init__(self) -> None:
        self._earlier = 0.0
        """Wall seconds of the sessions before the last."""
        self._began = 0.0
        self._last = 0.0
        """When the last session began, and the time of its last event, in seconds since the epoch."""
        self.supernet_seconds = 0.0
        self.supernet_processes = 1
        """Each has a GPU of its own."""
        self.job_seconds = 0.0
        """Seconds of trials (all attempts) and of finalists."""
        self._finished, self._finished_seconds = 0.0, 0.0
        """Trials that finished, and their seconds; one that reached a rung counts as a fraction of a trial."""

    def apply(self, event: Event) -> None:
        """Adds the time of the next event."""
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
            case FinishedEvent():  # the oldest records have the time in the result alone
                self._add(event.result.seconds if event.seconds is None else event.seconds, event.fraction)
            case RungEvent():
                self._add(event.seconds, event.fraction)
            case FailedEvent() | RetriedEvent():
                self.job_seconds += event.seconds
            case FinalEvent():
                self.job_seconds += event.result.seconds

    def _add(self, seconds: float, fraction: float) -> None:
        """Counts a trial that finished or reached a rung, and the fraction of a whole trial that this was."""
        self.job_seconds += seconds
        self._finished += fraction
        self._finished_seconds += seconds

    def wall_seconds(self, now: float | None = None) -> float:
        """Returns wall seconds up to the last event or, in a running session, up to `now` (seconds since the epoch)."""
        return self._earlier + max(self._last, now or self._last) - self._began

    @property
    def mean_trial_seconds(self) -> float | None:
        """The mean seconds of a whole trial; None before any has finished or reached a rung."""
        return self._finished_seconds / self._finished if self._finished > 0 else None


@dataclass
class ComputeBudget:
    """The limits of a search's compute, compared with its usage."""

    usage: ComputeUsage
    expected: float
    """Planned seconds of a trial."""
    time_budget: float | None
    """Wall seconds."""
    gpu_hours: float | None
    gpus_per_trial: float
    clock: Callable[[], float] = time.time
    """Seconds since the epoch, by the clock of the records."""
    exhausted_by: Literal["time_budget", "gpu_hours"] | None = None
    """The exhausted limit; once set, no trial starts."""

    def has_room_for(self, now: float, running: Sequence[tuple[float, float]], fraction: float = 1.0) -> bool:
        """Returns whether one more job may start.

        Args:
            now: Seconds since the epoch, by `clock`.
            running: Seconds so far, and the fraction of a whole trial, of each running job.
            fraction: The new job, as a fraction of a whole trial.
        """
        whole = self.usage.mean_trial_seconds or self.expected
        if self.time_budget is not None and self.usage.wall_seconds(now) + fraction * whole > self.time_budget:
            self.exhausted_by = "time_budget"
        if self.gpu_hours is not None:
            promised = sum(max(other * whole, seconds) for seconds, other in running) + fraction * whole
            if self.gpu_seconds + self.gpus_per_trial * promised > 3600 * self.gpu_hours:
                self.exhausted_by = "gpu_hours"
        return self.exhausted_by is None

    @property
    def gpu_seconds(self) -> float:
        """The recorded GPU time in seconds."""
        supernet = self.usage.supernet_processes * self.usage.supernet_seconds
        return supernet + self.gpus_per_trial * self.usage.job_seconds

    @property
    def is_bounded(self) -> bool:
        """Whether there is any limit."""
        return self.time_budget is not None or self.gpu_hours is not None
