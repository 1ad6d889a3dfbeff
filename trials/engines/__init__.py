"""Where jobs run. An engine takes jobs as plain data and hands back outcomes as they come, in any order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from trials.jobs import Failure

RunJob = Callable[[dict[str, Any]], dict[str, Any]]
"""What a worker does with a job: plain data in, plain data out; an exception is a failure."""


@dataclass(frozen=True)
class Outcome:
    """The end of one job: its result, or why there is none."""

    job_id: int
    result: dict[str, Any] | None = None
    failure: Failure | None = None


class Engine(Protocol):
    """The contract: never more than `capacity` jobs at once, every submitted job has exactly one outcome."""

    capacity: int

    def submit(self, job_id: int, payload: dict[str, Any]) -> None:
        """Starts a job. The caller keeps to the capacity."""

    def wait(self) -> list[Outcome]:
        """Blocks until at least one running job ends. Returns an empty list if none is running."""

    def close(self) -> None:
        """Ends everything this engine started, running jobs included, and nothing else."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
