"""In which order the ends of jobs are taken in: by lengths that are known beforehand, not by who was quicker.

What a search does next depends on what it has taken in so far. Taken in as they end, results would make a search depend
on the number of workers and on their speed; taken in as they were begun, short jobs would wait for long ones. So the
order is that of a simulated machine on which every job takes its length: the same in every run, and near that in which
jobs end. Jobs of equal lengths are taken in as they were begun.
"""

from __future__ import annotations

import heapq


class CompletionOrder:
    """The jobs that were begun and not yet taken in."""

    def __init__(self) -> None:
        self._now = 0.0
        self._number = 0
        self._jobs: list[tuple[float, int, int]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def begin(self, job_id: int, length: float) -> None:
        heapq.heappush(self._jobs, (self._now + length, self._number, job_id))
        self._number += 1

    @property
    def next(self) -> int:
        """The job that is taken in next. Raises `IndexError` if there is none."""
        return self._jobs[0][2]

    def take(self) -> None:
        """Takes the next job in."""
        self._now, _, _ = heapq.heappop(self._jobs)
