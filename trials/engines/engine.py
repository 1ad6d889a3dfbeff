"""Engine interface: takes jobs as plain data, runs them, and returns outcomes as they come, in any order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from .results import Failure

RunJob = Callable[[dict[str, Any]], dict[str, Any]]
"""The function that a worker runs: plain data in, plain data out. An exception becomes a failure."""


@dataclass(frozen=True)
class Outcome:
    """The end of one job: its result or its failure."""

    job_id: int
    result: dict[str, Any] | None = None
    failure: Failure | None = None


class Engine(ABC):
    """Runs at most `capacity` jobs at once, and returns exactly one outcome for every submitted job.

    An engine tries a job once. Retries are its caller's decision (`trials.engines.retries`).
    """

    @property
    @abstractmethod
    def capacity(self) -> int:
        """The number of jobs that can run at once, at least 1.

        It may change while an engine runs. Jobs that are running continue.
        """

    @abstractmethod
    def submit(self, job_id: int, payload: dict[str, Any], time_limit: float | None = None) -> None:
        """Starts a job. If it takes more than `time_limit` seconds, ends it with the cause `timed out`.

        Raises `RuntimeError` if `capacity` jobs are running.
        """

    @abstractmethod
    def wait(self) -> list[Outcome]:
        """Waits until a job ends, and returns the outcomes of all that have. Returns [] if none is running."""

    @abstractmethod
    def close(self) -> None:
        """Ends everything this engine started, running jobs included, and nothing else."""

    def keep_files(self) -> None:  # noqa: B027 most engines write nothing
        """Keeps what the engine itself writes, if it writes anything: the search has begun, and will not be withdrawn.

        An engine that is closed before leaves no file behind.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
