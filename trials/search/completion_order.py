"""Deterministic completion order: results are consumed as a simulated machine would finish them, not as they arrive.

What a search does next depends on the results consumed so far. In the order of arrival, a search would depend on the
number and the speed of its workers. In the order of submission, short jobs would wait for long ones. So jobs are
consumed in the order in which a simulated machine would finish them, where each job takes its known length: the same in
every run, and close to the real order. Jobs of equal lengths finish in the order of submission.
"""

from __future__ import annotations

import heapq


class CompletionOrder:
    """A priority queue of the jobs in flight, by their simulated end."""

    def __init__(self) -> None:
        self._now = 0.0
        """Simulated time: the end of the job popped last."""
        self._num_pushed = 0
        self._jobs: list[tuple[float, int, int]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def push(self, job_id: int, length: float) -> None:
        """Adds a job that starts now, in simulated time, and takes `length`."""
        heapq.heappush(self._jobs, (self._now + length, self._num_pushed, job_id))
        self._num_pushed += 1

    def peek(self) -> int:
        """Returns the job that finishes next. Raises `IndexError` if there is none."""
        return self._jobs[0][2]

    def pop(self) -> int:
        """Removes the job that finishes next and returns it. Raises `IndexError` if there is none."""
        self._now, _, job_id = heapq.heappop(self._jobs)
        return job_id
