"""What jobs read, on the disk of the machine where they run: each content once, for all its workers and searches.

Whoever comes first lays a parcel out and the others wait for it; it is there whole or not at all. Parcels stay for the
next search. When they grow beyond a limit, those go that were not used for longest and that nobody uses now.
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

from trials.engines.file_transfer import Parcel, contents

MAX_BYTES = 32 * 2**30
"""Of all parcels on a machine, for one user."""


def default_folder() -> Path:
    """A folder of this user alone, among the machine's temporary files. Raises `PermissionError` if it is another's."""
    folder = Path(tempfile.gettempdir()) / f"sret-nas-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else; set TMPDIR to a folder of your own")
    return folder


class NodeCache:
    """A folder with a folder per parcel, named by its digest, and a lock file beside each."""

    def __init__(self, folder: Path, most_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes

    @contextmanager
    def provided(self, parcel: Parcel, fetch: Callable[[Any], bytes]) -> Iterator[Path]:
        """The parcel's file or folder, which is there for as long as the context lasts."""
        entry = self._folder / parcel.digest
        with _lock(_lock_of(entry), fcntl.LOCK_SH):  # nobody removes what somebody uses
            if not entry.exists():
                with _lock(self._folder / "laying-out.lock", fcntl.LOCK_EX):
                    if not entry.exists():  # another worker may have been quicker
                        self._make_room(parcel.num_bytes)
                        _lay_out(entry, parcel, fetch)
            os.utime(entry)
            yield entry if parcel.is_folder else entry / parcel.files[0].name

    def _make_room(self, num_bytes: int) -> None:
        """Removes parcels that nobody uses, as many as must go, those first that were not used for longest."""
        entries = sorted(filter(_is_entry, self._folder.iterdir()), key=lambda entry: entry.stat().st_mtime)
        total = num_bytes + sum(map(_num_bytes, entries))
        for entry in entries:
            if total <= self._most_bytes:
                return
            with suppress(BlockingIOError), _lock(_lock_of(entry), fcntl.LOCK_EX | fcntl.LOCK_NB):
                total -= _num_bytes(entry)
                shutil.rmtree(entry)


def _lay_out(entry: Path, parcel: Parcel, fetch: Callable[[Any], bytes]) -> None:
    unfinished = entry.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)  # a worker was killed here
    unfinished.mkdir()
    try:
        for packed in parcel.files:
            with (unfinished / packed.name).open("wb") as file:
                file.writelines(contents(packed, fetch))
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    unfinished.rename(entry)


@contextmanager
def _lock(path: Path, operation: int) -> Iterator[None]:
    """Holds a lock of the system, which a process that is killed leaves to the next."""
    with path.open("a") as file:
        fcntl.flock(file, operation)
        yield


def _lock_of(entry: Path) -> Path:
    return entry.with_suffix(".lock")


def _is_entry(path: Path) -> bool:
    return path.is_dir() and not path.suffix


def _num_bytes(entry: Path) -> int:
    return sum(file.stat().st_size for file in entry.iterdir())
