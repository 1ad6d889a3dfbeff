"""The append-only record of a landscape: a header, then one line for each point.

It lies in the landscape's folder, which is begun whole: the folder with its header appears once networks and images are
in it. Every line is on disk before the next point depends on it, so a kill loses the running points alone.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictFloat, StrictInt, StrictStr

from sret_nas.bounded_files import read_lines
from sret_nas.errors import ConfigError, UserError
from sret_nas.files import validate, write_atomically
from sret_nas.json_files import MAX_BYTES, parse_json

from ..engines.messages import LandscapeResult
from ..interruption import defer_interrupts
from ..lost_directory import is_same_file, rescue
from .checksums import with_checksum, without_checksum
from .full_disk import StorageError
from .landscape_options import MAX_POINTS, LandscapeOptions

RECORDS_FILE = "landscape.jsonl"

MAX_NETWORKS = 12
"""Networks of one landscape: more do not fit into one picture."""

Index = Annotated[StrictInt, Field(ge=-MAX_POINTS, le=MAX_POINTS)]


@dataclass(frozen=True, order=True)
class GridPoint:
    """A point: its network, its pair of directions, and its position in steps from the network."""

    network: int
    pair: int
    i: int
    j: int

    @classmethod
    def of(cls, network: int, pair: int, i: int, j: int) -> Self:
        """Returns the point; all pairs share the network itself, which is point (0, 0) of the first one."""
        return cls(network, 0 if i == j == 0 else pair, i, j)


class RecordedNetwork(BaseModel):
    """A network of a landscape, with the files that its jobs read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: StrictStr
    """As the user named it."""
    source: StrictStr
    arch_id: StrictStr
    recursions: tuple[StrictInt, ...]
    """Of each stage, as far as they are run."""
    flops: StrictInt
    """Of one image at that depth."""
    weights: StrictStr
    """The file of the network in the landscape's folder."""
    weights_digest: StrictStr
    images: StrictStr
    """The folder of its images in the landscape's folder."""
    images_digest: StrictStr
    num_images: dict[StrictStr, StrictInt]
    """Images of each kind."""
    weight_decay: StrictFloat | None
    """Of its training; None if the training's loss is not computed."""
    recipe: dict[str, JsonValue] | None
    """Of its training; None if it is not known."""


class Header(BaseModel):
    """The first line: everything that decides the values of all points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: Literal["header"] = "header"
    format: Literal[1] = 1
    time: float
    options: dict[str, JsonValue]
    networks: Annotated[tuple[RecordedNetwork, ...], Field(min_length=1, max_length=MAX_NETWORKS)]
    data: dict[str, JsonValue]
    """The images, in words, and their digest."""
    versions: dict[str, str]


class PointEvent(BaseModel):
    """The losses at a point."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: Literal["point"] = "point"
    network: Annotated[StrictInt, Field(ge=0)]
    pair: Annotated[StrictInt, Field(ge=0)]
    i: Index
    j: Index
    result: LandscapeResult


def write_header(folder: Path, header: Header) -> None:
    """Begins the record in a new folder."""
    write_atomically(folder / RECORDS_FILE, with_checksum(header.model_dump(mode="json")))


class LandscapeRecords:
    """The record of a landscape, locked and open for appending."""

    def __init__(self, directory: Path) -> None:
        """Locks and reads a record, and cuts off a torn last line.

        Raises `UserError` if the folder has no record, another process computes it, or it is damaged.
        """
        self.directory, self._path = directory, directory / RECORDS_FILE
        if not self._path.is_file():
            raise UserError(f"{directory} holds no landscape: there is no {RECORDS_FILE} in it")
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.header, self.points = self._read()
            self._size = sum(len(line) + 1 for line in read_lines(self._path, MAX_BYTES))
            os.ftruncate(self._file, self._size)
        except BlockingIOError:
            os.close(self._file)
            raise UserError(f"{directory} is in use: another process computes this landscape") from None
        except BaseException:
            os.close(self._file)
            raise
        self.options = LandscapeOptions.parse(self.header.options, str(self._path))

    def _read(self) -> tuple[Header, dict[GridPoint, LandscapeResult]]:
        header, points = None, {}
        for number, line in enumerate(read_lines(self._path, MAX_BYTES), start=1):
            source = f"{self._path}, line {number}"
            plain, _ = without_checksum(line, source, must_be_checked=True)
            content = parse_json(plain, source)
            if header is None:
                header = validate(Header, content, source)
                continue
            event = validate(PointEvent, content, source)
            if event.network >= len(header.networks):
                raise ConfigError(source, "network", f"there are {len(header.networks)} networks, got {event.network}")
            points[GridPoint(event.network, event.pair, event.i, event.j)] = event.result
        if header is None:
            raise UserError(f"{self._path} is empty: begin the landscape anew in another folder")
        return header, points

    def add(self, point: GridPoint, result: LandscapeResult) -> None:
        """Appends a point, whole even if Ctrl-C is pressed meanwhile.

        Raises `StorageError` if the disk is full, and `LostDirectoryError`, with the record rescued, if the folder is
        gone.
        """
        event = PointEvent(network=point.network, pair=point.pair, i=point.i, j=point.j, result=result)
        with defer_interrupts() as interruptions:
            self._append(with_checksum(event.model_dump(mode="json")))
            self.points[point] = result
        if interruptions:
            raise KeyboardInterrupt

    def _append(self, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):  # a disk that becomes full first takes what it still can
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise StorageError(error.errno, error.strerror, str(self._path)) from error
        self._size += len(line)
        if not is_same_file(self._path, self._file):
            content = os.pread(self._file, self._size, 0)
            raise rescue(self.directory, lambda folder: write_atomically(folder / RECORDS_FILE, content))

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
