"""Detects a run directory that is deleted, moved or replaced while a command runs, and rescues what is in memory."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path


class LostDirectoryError(OSError):
    """The directory that a command writes to is gone. It is not an error in the options, so the exit code is 1."""

    def __init__(self, message: str, rescued: Path | None = None) -> None:
        super().__init__(message)
        self.rescued = rescued
        """The folder with the rescued files; None if they could not be written."""


class WatchedDirectory:
    """A directory that is recognised by its identity on the disk, not by its name."""

    def __init__(self, path: Path) -> None:
        """Creates the directory if it does not exist."""
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._identity = _identity(path)

    @property
    def is_lost(self) -> bool:
        """Whether the path no longer names this directory."""
        return _identity(self.path) != self._identity


def is_same_file(path: Path, descriptor: int) -> bool:
    """Returns whether a path still names an open file."""
    opened = os.fstat(descriptor)
    return _identity(path) == (opened.st_dev, opened.st_ino)


def lost_message(directory: Path) -> str:
    """Returns what users are told of a lost directory."""
    return f"{directory} was deleted, moved or replaced while this ran"


def rescue(directory: Path, keep: Callable[[Path], None], rescued: Path | None = None) -> LostDirectoryError:
    """Writes what is in memory to another folder, and returns the error to raise.

    Args:
        directory: The lost directory.
        keep: Writes the files into the folder that it is given.
        rescued: That folder; by default a new one beside the lost directory.
    """
    rescued = _beside(directory) if rescued is None else rescued
    what = lost_message(directory)
    try:
        rescued.mkdir(parents=True, exist_ok=True)
        keep(rescued)
    except OSError as error:
        return LostDirectoryError(f"{what}; what was in memory cannot be kept in {rescued}: {error.strerror or error}")
    return LostDirectoryError(f"{what}; what was in memory is kept in {rescued}", rescued)


def _beside(directory: Path) -> Path:
    """Returns a folder beside a directory that does not exist yet.

    If the parent is lost too, the folder has the same name inside the rescue folder of the parent.
    """
    if not directory.parent.exists():
        return _beside(directory.parent) / directory.name
    names = (
        f"{directory.name}-rescued{suffix}" for suffix in itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
    )
    return next(path for name in names if not os.path.lexists(path := directory.with_name(name)))


def _identity(path: Path) -> tuple[int, int] | None:
    """Returns device and inode of a file or folder; None if it does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
