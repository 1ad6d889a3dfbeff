"""Handling of a full or read-only disk: the search ends and says which file failed, what is safe, and how to resume.

A trial that failed because of the full disk is not recorded, so a resumed search runs it again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sret_nas.errors import UserError

from ..engines.failures import is_full
from ..engines.results import Failure


class StorageError(OSError):
    """A file of a search cannot be written. It is not the user's mistake, so the exit code is 1."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Adds the file's name to an `OSError` from writing it; the system names it only when opening fails."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def raise_if_full(failure: Failure | None) -> None:
    """Raises `StorageError` if a worker failed because the disk is full."""
    if failure is not None and failure.cause == "disk full":
        raise StorageError(f"a worker cannot write its files: {failure.message}")


def raise_if_nothing_can_be_recorded(failure: Failure | None) -> None:
    """Ends the search on failures that are not the trial's own, so that a resumed search runs the trial again.

    Raises `StorageError` if the worker's disk is full, and `UserError` if the images changed while it ran.
    """
    raise_if_full(failure)
    if failure is not None and failure.cause == "images changed":
        raise UserError(
            f"{failure.message}; no result that used them was recorded: --resume prepares them again and carries on"
        )


@contextmanager
def full_disk_explained(resume: str | None, kept: str) -> Iterator[None]:
    """Turns errors of a full or read-only disk into a `StorageError` that says what is safe and how to resume.

    Args:
        resume: The command that carries on; None if the run has not begun.
        kept: What is on disk all the same.
    """
    try:
        yield
    except OSError as error:
        if not isinstance(error, StorageError) and not is_full(error):
            raise
        advice = "make it writable" if os.strerror(errno.EROFS) in str(error) else "make room"
        what = str(error) if error.filename is None else f"{error.filename} cannot be written: {error.strerror}"
        then = "start it again" if resume is None else f"carry on with: {resume}"
        raise StorageError(f"{what}; {kept}: {advice}, then {then}") from error


def recorded_in(run_dir: Path) -> str:
    """Returns what a full disk leaves of a run with records."""
    return f"all that was recorded until then is safe in {run_dir}"
