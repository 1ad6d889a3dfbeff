"""Where jobs run. An engine takes jobs as plain data and hands back outcomes as they come, in any order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from .messages import Failure

RunJob = Callable[[dict[str, Any]], dict[str, Any]]
"""What a worker does with a job: plain data in, plain data out; an exception is a failure."""


@dataclass(frozen=True)
class Outcome:
    """The end of one job: its result, or why there is none."""

    job_id: int
    result: dict[str, Any] | None = None
    failure: Failure | None = None


class Engine(ABC):
    """The contract: never more than `capacity` jobs at once, every submitted job has exactly one outcome.

    An engine tries a job once. Whether it is tried again is its caller's to say (`trials.engines.retries`).
    """

    @property
    @abstractmethod
    def capacity(self) -> int:
        """Jobs that can run now, at least one; it may change while an engine runs, and what runs already runs on."""

    @abstractmethod
    def submit(self, job_id: int, payload: dict[str, Any], time_limit: float | None = None) -> None:
        """Starts a job, and ends it with the cause `timed out` if it takes more than `time_limit` seconds.

        Raises `RuntimeError` beyond the capacity.
        """

    @abstractmethod
    def wait(self) -> list[Outcome]:
        """Blocks until at least one running job ends. Returns an empty list if none is running."""

    @abstractmethod
    def close(self) -> None:
        """Ends everything this engine started, running jobs included, and nothing else."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
