"""A disk that is full: the search ends, and says which file could not be written, what is safe, and how to carry on.

Nothing is recorded of a trial that a full disk spoiled, so that a resumed search runs it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sret_nas.errors import UserError

from ..engines.failures import is_full
from ..engines.messages import Failure
from ..program_name import resume_command


class StorageError(OSError):
    """A file of a search cannot be written: no mistake of the user's, so the command line exits with code 1."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Names the file in errors from writing it: the system does so for opening it alone."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def raise_if_full(failure: Failure | None) -> None:
    """Raises `StorageError` where a worker failed for lack of room."""
    if failure is not None and failure.cause == "disk full":
        raise StorageError(f"a worker cannot write its files: {failure.message}")


def raise_if_nothing_can_be_recorded(failure: Failure | None) -> None:
    """Ends a search for what is no trial's own failure, so that a resumed search runs the trial again.

    Raises `StorageError` where a worker had no room to write, `UserError` where the images changed under it.
    """
    raise_if_full(failure)
    if failure is not None and failure.cause == "images changed":
        raise UserError(f"{failure.message}; nothing was recorded of what saw them: --resume mends them and carries on")


@contextmanager
def full_disk_explained(run_dir: Path, has_begun: bool) -> Iterator[None]:
    """Turns errors for lack of room into a `StorageError` with all that a user needs, on one line."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, StorageError) and not is_full(error):
            raise
        what = str(error) if error.filename is None else f"{error.filename} cannot be written: {error.strerror}"
        if not has_begun:
            raise StorageError(f"{what}; the search has not begun: make room, then start it again") from error
        raise StorageError(
            f"{what}; all that was recorded until then is safe in {run_dir}: make room, then carry on with: "
            f"{resume_command('search', run_dir)}"
        ) from error
