"""A run directory that is deleted, moved or replaced while a command runs: noticed, and what is in memory is kept."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path


class LostDirectoryError(OSError):
    """The directory that a command writes to is gone: no mistake of its options, so it exits with code 1."""

    def __init__(self, message: str, rescued: Path | None = None) -> None:
        super().__init__(message)
        self.rescued = rescued
        """Where what was in memory is kept; None if it could not be."""


class WatchedDirectory:
    """A directory as it was at the beginning, which another of the same name does not replace."""

    def __init__(self, path: Path) -> None:
        """Makes the directory if it is not there."""
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._identity = _identity(path)

    @property
    def is_lost(self) -> bool:
        return _identity(self.path) != self._identity


def is_same_file(path: Path, descriptor: int) -> bool:
    """Whether an open file is still what its path names."""
    opened = os.fstat(descriptor)
    return _identity(path) == (opened.st_dev, opened.st_ino)


def rescue(directory: Path, keep: Callable[[Path], None], rescued: Path | None = None) -> LostDirectoryError:
    """Rescues what is in memory, and returns the error that says so.

    `keep` writes it into the folder that it is given: `rescued`, or a new one beside the lost directory.
    """
    rescued = _beside(directory) if rescued is None else rescued
    what = f"{directory} was deleted, moved or replaced while this ran"
    try:
        rescued.mkdir(parents=True, exist_ok=True)
        keep(rescued)
    except OSError as error:
        return LostDirectoryError(f"{what}; what was in memory cannot be kept in {rescued}: {error.strerror or error}")
    return LostDirectoryError(f"{what}; what was in memory is kept in {rescued}", rescued)


def _beside(directory: Path) -> Path:
    """A folder that does not exist yet; of a directory inside one that is lost too, the same folder inside its own."""
    if not directory.parent.exists():
        return _beside(directory.parent) / directory.name
    names = (
        f"{directory.name}-rescued{number}" for number in itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
    )
    return next(path for name in names if not os.path.lexists(path := directory.with_name(name)))


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file or folder from another of its name; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
