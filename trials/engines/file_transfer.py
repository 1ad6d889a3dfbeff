"""What a job refers to travels with it, for workers on machines that share no files with the driver.

A job names folders and files of the driver's machine. Those it reads are packed: split into chunks that are put once
into a store which every machine can fetch from, and are kept there for the next job that names them. On the worker's
side they are laid out on its own disk, and the job is told that place instead. What a job writes comes back with its
result. The job kinds and those who run them know nothing of this.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Payload = dict[str, Any]
Place = tuple[str, ...]
"""Keys that lead to a value inside a payload."""

READ: tuple[Place, ...] = (("data_dir",), ("supernet", "path"), ("checkpoint_from",))
"""Where any job names what it reads."""
WEIGHTS: Place = ("weights_path",)
"""Where a job names its trained weights: a test reads them, any other job leaves them there."""
LEFT: tuple[Place, ...] = (WEIGHTS, ("checkpoint_to",))
"""Where any job but a test names what it leaves."""
CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class PackedFile:
    """A file's name inside its parcel, the SHA-256 of its content, and references to its chunks in the store."""

    name: str
    num_bytes: int
    sha256: str
    chunks: tuple[Any, ...]


@dataclass(frozen=True)
class Parcel:
    """A packed file, or a packed folder of files."""

    files: tuple[PackedFile, ...]
    is_folder: bool

    @property
    def digest(self) -> str:
        """64 hexadecimal digits: equal for equal names and contents."""
        return hashlib.sha256(repr([(file.name, file.sha256) for file in self.files]).encode()).hexdigest()

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)


@dataclass(frozen=True)
class Luggage:
    """What travels with a job: what it reads, and where it names files that it leaves."""

    parcels: dict[Place, Parcel]
    left: tuple[Place, ...]


class Packer:
    """The driver's side. `put` stores a chunk and returns a reference to it, which keeps it as long as it lives."""

    def __init__(self, put: Callable[[bytes], Any]) -> None:
        self._put = put
        self._packed: dict[Place, tuple[object, Parcel]] = {}

    def pack(self, payload: Payload) -> Luggage:
        """Packs what is not packed already. What is not there is left to the job to find missing."""
        reads_weights = payload.get("kind") == "test"
        places = [*READ, WEIGHTS] if reads_weights else READ
        parcels = {place: self._parcel(place, path) for place in places if (path := _path(payload, place)) is not None}
        left = () if reads_weights else tuple(place for place in LEFT if value_at(payload, place) is not None)
        return Luggage(parcels, left)

    def _parcel(self, place: Place, path: Path) -> Parcel:
        """The last parcel of each place is kept, and packed anew if the files are others or have changed."""
        state = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in _files(path)]
        if place not in self._packed or self._packed[place][0] != state:
            self._packed[place] = state, Parcel(tuple(map(self._pack_file, _files(path))), path.is_dir())
        return self._packed[place][1]

    def _pack_file(self, path: Path) -> PackedFile:
        digest, chunks, num_bytes = hashlib.sha256(), [], 0
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                chunks.append(self._put(chunk))
                num_bytes += len(chunk)
        return PackedFile(path.name, num_bytes, digest.hexdigest(), tuple(chunks))


def _path(payload: Payload, place: Place) -> Path | None:
    """What a job reads, if it names anything and that is there."""
    value = value_at(payload, place)
    return None if value is None or not Path(value).exists() else Path(value)


def _files(path: Path) -> list[Path]:
    """The file itself, or the files of a folder, which has no folders inside."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def value_at(payload: Payload, place: Place) -> Any:
    """What a payload says at a place; None if it does not go that far."""
    value: Any = payload
    for key in place:
        value = None if value is None else value.get(key)
    return value


def with_values(payload: Payload, values: dict[Place, str]) -> Payload:
    """A copy of a payload that says something else at some places."""
    changed = copy.deepcopy(payload)
    for place, value in values.items():
        inner: Any = changed
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
    return changed


def contents(file: PackedFile, fetch: Callable[[Any], bytes]) -> Iterator[bytes]:
    """The chunks of a file, one after the other. Raises `OSError` in the end if they are not what was packed."""
    digest = hashlib.sha256()
    for reference in file.chunks:
        chunk = fetch(reference)
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != file.sha256:
        raise OSError(f"{file.name} did not arrive as it was sent")
