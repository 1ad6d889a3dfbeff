"""Transfers a job's input and output files between the driver and machines without a shared file system.

A job names files and folders on the driver's machine. The driver splits its inputs into chunks and puts them once into
a store that every machine can fetch from, where they stay for later jobs with the same inputs. A worker extracts them
to its own disk and replaces the paths in the job. Output files come back with the result. The functions that run jobs
need not know of any of this.
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

DATA_DIR: KeyPath = ("data_dir",)
SOFT_LABELS: KeyPath = ("soft_labels", "path")
INPUTS: tuple[KeyPath, ...] = (
    DATA_DIR, SOFT_LABELS, ("supernet", "path"), ("network", "path"), ("checkpoint_from",)
)  # fmt: skip
"""Where a job names its inputs."""
WEIGHTS: KeyPath = ("weights_path",)
"""Where a job names trained weights: an input of a test job, an output of all others."""
OUTPUTS: tuple[KeyPath, ...] = (WEIGHTS, ("checkpoint_to",))
"""Where a job, other than a test, names its outputs."""
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
    """A file, or a folder of files, with its content in the store."""

    files: tuple[BundledFile, ...]
    is_folder: bool

    @property
    def digest(self) -> str:
        """64 hexadecimal digits, equal for equal names and contents."""
        return hashlib.sha256(repr([(file.name, file.sha256) for file in self.files]).encode()).hexdigest()

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)


@dataclass(frozen=True)
class JobFiles:
    """The bundles of a job's inputs, by their key paths in the payload, and the key paths of its outputs."""

    bundles: dict[KeyPath, FileBundle]
    outputs: tuple[KeyPath, ...]


class BundleWriter:
    """Writes bundles, in the driver. `put` stores a chunk and returns a reference, which keeps the chunk alive."""

    def __init__(self, put: Callable[[bytes], Any]) -> None:
        self._put = put
        self._written: dict[KeyPath, tuple[object, FileBundle]] = {}

    def write(self, payload: Payload) -> JobFiles:
        """Stores the inputs of a job that are not stored yet. Leaves out missing files, which the job will report."""
        reads_weights = payload.get("kind") == "test"
        inputs = [*INPUTS, WEIGHTS] if reads_weights else INPUTS
        paths = {key_path: _existing_path(payload, key_path) for key_path in inputs}
        bundles = {key_path: self._bundle(key_path, path) for key_path, path in paths.items() if path is not None}
        outputs = () if reads_weights else tuple(path for path in OUTPUTS if value_at(payload, path) is not None)
        return JobFiles(bundles, outputs)

    def _bundle(self, key_path: KeyPath, path: Path) -> FileBundle:
        """Returns the bundle of a key path. Writes a new one if the path or its files have changed since the last."""
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
    """Returns the path at a key path of a job, or None if it names none or the path does not exist."""
    value = value_at(payload, key_path)
    return None if value is None or not Path(value).exists() else Path(value)


def _files(path: Path) -> list[Path]:
    """Returns the file itself, or the files of a folder, which has no folders inside."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def value_at(payload: Payload, key_path: KeyPath) -> Any:
    """Returns the value at a key path, or None if there is none."""
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
    """Yields the chunks of a file. Raises `OSError` after the last one if the content differs from what was stored."""
    digest = hashlib.sha256()
    for reference in file.chunks:
        chunk = fetch(reference)
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != file.sha256:
        raise OSError(f"{file.name} did not arrive as it was sent")
