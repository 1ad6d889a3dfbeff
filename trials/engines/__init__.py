"""Where jobs run. An engine takes jobs as plain data and hands back outcomes as they come, in any order."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from sret_nas.errors import UserError
from trials.jobs import DivergedError, Failure, FailureCause
from trials.storage import is_full

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

    An engine tries a job once. Whether it is tried again is its caller's to say (`trials.attempts`).
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


@contextmanager
def ray_needed() -> Iterator[None]:
    """Where Ray is imported, which not everybody has. Raises `UserError` if it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"--engine ray needs Ray ({error}): pip install -e '.[ray]'") from None


def timed_out(time_limit: float) -> Failure:
    """That a job was ended because it took longer than it may."""
    return Failure(cause="timed out", message=f"it took longer than the {time_limit:g} s that it may take")


def failure_of(error: Exception) -> Failure:
    """An exception in a job as a recorded failure. Call it where the exception is handled."""
    cause: FailureCause = "exception"
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, UserError):
        cause, message = "refused", str(error)
    elif isinstance(error, DivergedError):
        cause, message = "diverged", str(error)
    elif is_full(error):
        cause, message = "disk full", str(error)
    # torch's OutOfMemoryError is known by its name, since naming it would import torch into the driver
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in message:
        cause = "out of memory"
    return Failure(cause=cause, message=message, traceback=traceback.format_exc())
