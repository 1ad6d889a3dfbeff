"""The inline engine: runs each job in this process, for debugging and for very short jobs."""

from __future__ import annotations

from typing import Any

from .engine import Engine, Outcome, RunJob
from .failures import failure_of


class InlineEngine(Engine):
    """Runs one job at a time, while the caller waits.

    Jobs are not isolated from the search: one that kills its process kills the search, and one that hangs makes it
    hang. Time limits are ignored.
    """

    @property
    def capacity(self) -> int:
        return 1

    def __init__(self, run_job: RunJob) -> None:
        self._run_job = run_job
        self._pending: list[tuple[int, dict[str, Any]]] = []

    def submit(self, job_id: int, payload: dict[str, Any], time_limit: float | None = None) -> None:
        if self._pending:
            raise RuntimeError("a job is already waiting")
        self._pending.append((job_id, payload))

    def wait(self) -> list[Outcome]:
        outcomes = []
        while self._pending:
            job_id, payload = self._pending.pop()
            try:
                outcomes.append(Outcome(job_id, self._run_job(payload)))
            except Exception as error:
                outcomes.append(Outcome(job_id, failure=failure_of(error)))
        return outcomes

    def close(self) -> None:
        self._pending.clear()
