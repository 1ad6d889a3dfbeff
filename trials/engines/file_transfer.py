"""The files that a job reads and writes, sent between the driver and machines that share no files with it.

A job names folders and files of the driver's machine. Those it reads are split into chunks, which are put once into
a store that every machine can fetch from and stay there for the next job that names them. A worker extracts them on its
own disk and tells the job where. What the job writes comes back with its result. The jobs and their functions know
nothing of this.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Payload = dict[str, Any]
KeyPath = tuple[str, ...]
"""Keys that lead to a value inside a payload."""

INPUTS: tuple[KeyPath, ...] = (("data_dir",), ("supernet", "path"), ("checkpoint_from",))
"""Where any job names what it reads."""
WEIGHTS: KeyPath = ("weights_path",)
"""Where a job names its trained weights: a test reads them, any other job writes them."""
OUTPUTS: tuple[KeyPath, ...] = (WEIGHTS, ("checkpoint_to",))
"""Where any job but a test names what it writes."""
CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class BundledFile:
    """A file's name inside its bundle, the SHA-256 of its content, and references to its chunks in the store."""

    name: str
    num_bytes: int
    sha256: str
    chunks: tuple[Any, ...]


@dataclass(frozen=True)
class FileBundle:
    """A file, or a folder of files, whose content is in the store."""

    files: tuple[BundledFile, ...]
    is_folder: bool

    @property
    def digest(self) -> str:
        """64 hexadecimal digits: equal for equal names and contents."""
        return hashlib.sha256(repr([(file.name, file.sha256) for file in self.files]).encode()).hexdigest()

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)


@dataclass(frozen=True)
class JobFiles:
    """The bundles that a job reads, by where its payload names them, and where it names the files that it writes."""

    bundles: dict[KeyPath, FileBundle]
    outputs: tuple[KeyPath, ...]


class BundleWriter:
    """The driver's side. `put` stores a chunk and returns a reference to it, which keeps it as long as it lives."""

    def __init__(self, put: Callable[[bytes], Any]) -> None:
        self._put = put
        self._written: dict[KeyPath, tuple[object, FileBundle]] = {}

    def write(self, payload: Payload) -> JobFiles:
        """Stores the inputs of a job that are not stored yet. Missing ones are left to the job to report."""
        reads_weights = payload.get("kind") == "test"
        inputs = [*INPUTS, WEIGHTS] if reads_weights else INPUTS
        paths = {key_path: _existing_path(payload, key_path) for key_path in inputs}
        bundles = {key_path: self._bundle(key_path, path) for key_path, path in paths.items() if path is not None}
        outputs = () if reads_weights else tuple(path for path in OUTPUTS if value_at(payload, path) is not None)
        return JobFiles(bundles, outputs)

    def _bundle(self, key_path: KeyPath, path: Path) -> FileBundle:
        """Returns the last bundle of a key path, written anew if other files are named or they have changed."""
        state = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in _files(path)]
        if key_path not in self._written or self._written[key_path][0] != state:
            self._written[key_path] = state, FileBundle(tuple(map(self._write_file, _files(path))), path.is_dir())
        return self._written[key_path][1]

    def _write_file(self, path: Path) -> BundledFile:
        digest, chunks, num_bytes = hashlib.sha256(), [], 0
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                chunks.append(self._put(chunk))
                num_bytes += len(chunk)
        return BundledFile(path.name, num_bytes, digest.hexdigest(), tuple(chunks))


def _existing_path(payload: Payload, key_path: KeyPath) -> Path | None:
    """Returns the path that a job names, if it names any and that exists."""
    value = value_at(payload, key_path)
    return None if value is None or not Path(value).exists() else Path(value)


def _files(path: Path) -> list[Path]:
    """Returns the file itself, or the files of a folder, which has no folders inside."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def value_at(payload: Payload, key_path: KeyPath) -> Any:
    """Returns the value at a key path, or None if the payload does not go that far."""
    value: Any = payload
    for key in key_path:
        value = None if value is None else value.get(key)
    return value


def with_values(payload: Payload, values: dict[KeyPath, str]) -> Payload:
    """Returns a copy of a payload with other values at some key paths."""
    changed = copy.deepcopy(payload)
    for key_path, value in values.items():
        inner: Any = changed
        for key in key_path[:-1]:
            inner = inner[key]
        inner[key_path[-1]] = value
    return changed


def read_chunks(file: BundledFile, fetch: Callable[[Any], bytes]) -> Iterator[bytes]:
    """Yields the chunks of a file. Raises `OSError` after the last if they are not what was stored."""
    digest = hashlib.sha256()
    for reference in file.chunks:
        chunk = fetch(reference)
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != file.sha256:
        raise OSError(f"{file.name} did not arrive as it was sent")
