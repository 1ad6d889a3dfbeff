"""The append-only record of a landscape: a header, then one line for each point.

It lies in the landscape's folder, which is begun whole: the folder with its header appears once networks and images are
in it. Every line is on disk before the next point depends on it, so a kill loses the running points alone.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, StrictFloat, StrictInt, StrictStr

from sret_nas.errors import ConfigError, UserError
from sret_nas.files import validate, write_atomically

from ..engines.results import LandscapeResult
from .checksums import with_checksum
from .directory import LANDSCAPE_FILE
from .landscape_options import MAX_POINTS, LandscapeOptions
from .record_file import RecordFile, read_record_file
from .run_kinds import instead

MAX_NETWORKS = 12
"""Networks of one landscape: more do not fit into one picture."""

NETWORKS, IMAGES = "networks", "images"
"""Folders with what jobs read; deleted once all points are known."""

_INPUTS = re.compile(r"\d+(\.safetensors)?", re.ASCII)
"""Names of what these folders hold for the jobs."""

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
    num_images: dict[Literal["plain", "augmented", "calibration"], Annotated[StrictInt, Field(ge=0)]]
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
    limits_cluster: StrictBool = False
    """Whether the workers among the options were given, for a cluster."""


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
    write_atomically(folder / LANDSCAPE_FILE, with_checksum(header.model_dump(mode="json")))


class LandscapeRecords:
    """The record of a landscape, locked and open for appending."""

    def __init__(self, directory: Path) -> None:
        """Locks and reads a record, and cuts off a torn last line.

        Raises `UserError` if the folder has no record, another process computes it, or it is damaged.
        """
        self.directory = directory
        path = directory / LANDSCAPE_FILE
        if not path.is_file():
            raise UserError(
                f"{directory} holds no landscape: there is no {LANDSCAPE_FILE} in it{instead(directory, 'landscape')}"
            )
        self._file = RecordFile(path)
        try:
            self.header, self.points = _read(path)
            self.options = LandscapeOptions.recorded(
                self.header.options, str(path), limits_cluster=self.header.limits_cluster
            )
        except BaseException:
            self._file.close()
            raise

    def add(self, point: GridPoint, result: LandscapeResult) -> None:
        """Appends a point, whole even if Ctrl-C is pressed meanwhile.

        Raises `StorageError` if the disk is full, and `LostDirectoryError`, with the record rescued, if the folder is
        gone.
        """
        event = PointEvent(network=point.network, pair=point.pair, i=point.i, j=point.j, result=result)
        self._file.append(event.model_dump(mode="json"))
        self.points[point] = result

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read(path: Path) -> tuple[Header, dict[GridPoint, LandscapeResult]]:
    """Returns the header and the points of a record. Raises `UserError` if it is empty or damaged."""
    header, points = None, {}
    for source, content in read_record_file(path):
        if header is None:
            header = validate(Header, content, source)
            continue
        event = validate(PointEvent, content, source)
        if event.network >= len(header.networks):
            raise ConfigError(source, "network", f"there are {len(header.networks)} networks, got {event.network}")
        points[GridPoint(event.network, event.pair, event.i, event.j)] = event.result
    if header is None:
        raise UserError(f"{path} is empty: begin the landscape anew in another folder")
    return header, points


def delete_inputs(directory: Path) -> None:
    """Deletes what the jobs of a landscape read. Files of the user's in the same folders stay."""
    for folder in (directory / NETWORKS, directory / IMAGES):
        for path in list(folder.iterdir()) if folder.is_dir() else []:
            if not _INPUTS.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        with suppress(OSError):  # it is gone, or something else is in it
            folder.rmdir()
