"""A cache of jobs' input files on each machine's disk, shared by all workers and searches of a user.

The first worker extracts a bundle while the others wait. An entry is complete or absent, and stays for later searches.
Beyond a size limit, the least recently used entries are removed, except those in use.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .file_transfer import FileBundle, read_chunks

MAX_BYTES = 32 * 2**30
"""Of all bundles of one user on a machine."""
UNFINISHED = ".part"
"""Suffix of a folder into which a bundle is being extracted."""


def default_folder() -> Path:
    """Returns this user's cache folder in the temporary folder. Raises `PermissionError` if somebody else owns it."""
    folder = Path(tempfile.gettempdir()) / f"sret-nas-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else; set TMPDIR to a folder of your own")
    return folder


class NodeCache:
    """A folder with a folder per bundle, named by its digest, and a lock file beside each."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    @contextmanager
    def extracted(self, bundle: FileBundle, fetch: Callable[[Any], bytes]) -> Iterator[Path]:
        """Yields the path of the bundle's file or folder, which is not removed while the context lasts."""
        entry = self._folder / bundle.digest
        # Two locks. The entry's own, shared by its users, keeps it from being removed. The cache's makes room and
        # extracts in one worker at a time.
        with _lock(_lock_of(entry), fcntl.LOCK_SH):
            if not entry.exists():
                with _lock(self._folder / "extract.lock", fcntl.LOCK_EX):
                    if not entry.exists():  # another worker may have been quicker
                        self._make_room(bundle.num_bytes)
                        extract(entry, bundle, fetch)
            os.utime(entry)  # the time of last use
            yield entry if bundle.is_folder else entry / bundle.files[0].name

    def _make_room(self, num_bytes: int) -> None:
        """Removes unused entries, least recently used first, until `num_bytes` more fit.

        Folders that killed workers left unfinished are removed, too: only the holder of `extract.lock` extracts.
        """
        for unfinished in self._folder.glob(f"*{UNFINISHED}"):
            shutil.rmtree(unfinished, ignore_errors=True)
        entries = sorted(filter(_is_entry, self._folder.iterdir()), key=lambda entry: entry.stat().st_mtime)
        total = num_bytes + sum(map(_num_bytes, entries))
        for entry in entries:
            if total <= self._max_bytes:
                return
            # Without waiting: an entry whose lock is taken is in use.
            with suppress(BlockingIOError), _lock(_lock_of(entry), fcntl.LOCK_EX | fcntl.LOCK_NB):
                total -= _num_bytes(entry)
                removed = entry.rename(entry.with_suffix(UNFINISHED))  # at once: a kill leaves no part of an entry
                shutil.rmtree(removed)


def extract(entry: Path, bundle: FileBundle, fetch: Callable[[Any], bytes]) -> None:
    """Writes the files of a bundle into the folder `entry`, which appears complete or not at all."""
    unfinished = entry.with_suffix(UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a worker that was killed
    unfinished.mkdir()
    try:
        for bundled in bundle.files:
            with (unfinished / bundled.name).open("wb") as file:
                file.writelines(read_chunks(bundled, fetch))
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    unfinished.rename(entry)


@contextmanager
def _lock(path: Path, operation: int) -> Iterator[None]:
    """Holds a file lock. The system releases it if the process dies."""
    with path.open("a") as file:
        fcntl.flock(file, operation)
        yield


def _lock_of(entry: Path) -> Path:
    return entry.with_suffix(".lock")


def _is_entry(path: Path) -> bool:
    return path.is_dir() and not path.suffix


def _num_bytes(entry: Path) -> int:
    return sum(file.stat().st_size for file in entry.iterdir())
