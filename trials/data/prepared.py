"""Prepared data: the three parts as decoded pixels on disk, memory-mapped, so that all workers share one copy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sret_nas.errors import UserError
from sret_nas.files import write_atomically
from trials.data.config import DataConfig
from trials.data.source import PARTS, IntArray

FORMAT = 1
"""Of the files below; raised whenever equal configurations would give other files."""

METADATA = "data.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The images of one part, and what every part is normalised with.

    Every beginning of it has the classes in their own proportions, so `images[:500]` is a stratified subset.
    """

    images: npt.NDArray[np.uint8]
    """(n, h, w, c), c = 1 (grey) or 3 (RGB), read-only."""
    labels: IntArray
    """(n,)"""
    mean: tuple[float, ...]
    """(c,) of the training part, pixels counted from 0 to 1."""
    std: tuple[float, ...]
    """(c,) of the training part; at least 1/255, so that a blank channel can be divided by it."""
    flip: bool
    """Whether a mirrored image keeps its class."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What lies beside the arrays: what they were made from, and what cannot be read off them."""

    config: DataConfig
    fingerprint: str
    """Of the source's files when they were decoded; empty for sources whose content is fixed by their name."""
    class_names: tuple[str, ...]
    flip: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    shapes: Mapping[str, tuple[int, ...]]
    origins: Mapping[str, str]
    """For each part, how it came to be, for people."""
    passed_over: tuple[str, ...]
    """Files that lay among the images and are none, by their extension."""

    def write(self, directory: Path) -> None:
        write_atomically(directory / METADATA, json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Raises `UserError` if the directory holds no data prepared by this version."""
        path = directory / METADATA
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{directory}: holds no prepared data ({METADATA} is missing); prepare it first") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read: {error}; prepare the data again") from None
        if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
            raise UserError(f"{path}: was not written by this version; prepare the data again")
        for name in ("class_names", "mean", "std", "passed_over"):
            fields[name] = tuple(fields[name])
        fields["shapes"] = {part: tuple(shape) for part, shape in fields["shapes"].items()}
        return cls(**{**fields, "config": DataConfig(**fields["config"])})


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedData:
    """A data set that is ready for training. `open` takes milliseconds; sent to a worker, it is opened again there."""

    directory: Path
    metadata: Metadata
    train: Split
    val: Split
    """What the search sees."""
    test: Split
    """What no search ever sees."""

    @classmethod
    def open(cls, directory: Path) -> Self:
        """The data that `prepare` left in a directory. Raises `UserError` if it is not there, or not whole."""
        metadata = Metadata.read(directory)
        shared: dict[str, Any] = {"mean": metadata.mean, "std": metadata.std, "flip": metadata.flip}
        parts = {}
        for part in PARTS:
            images = _map(array_path(directory, part, "images"), metadata.shapes[part])
            labels = _map(array_path(directory, part, "labels"), metadata.shapes[part][:1])
            parts[part] = Split(images=images, labels=labels, **shared)
        return cls(directory=directory, metadata=metadata, **parts)

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return type(self).open, (self.directory,)

    @property
    def config(self) -> DataConfig:
        return self.metadata.config

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.metadata.class_names

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def channels(self) -> int:
        return int(self.train.images.shape[3])

    @property
    def mean(self) -> tuple[float, ...]:
        return self.metadata.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.metadata.std

    @property
    def flip(self) -> bool:
        return self.metadata.flip

    @property
    def digest(self) -> str:
        """64 hexadecimal digits over classes, images and labels of all parts: equal for equal content."""
        return self.metadata.digest

    def summary(self) -> str:
        """A few lines for people: what the data is, and how each part came to be."""
        size = self.config.image_size
        kind = "grey" if self.channels == 1 else "colour"
        flips = "mirrored at random in training" if self.flip else "never mirrored"
        lines = [f"{self.config.source}: {self.num_classes} classes, {kind} images of {size} x {size} px, {flips}"]
        for title, name, part in (
            ("training", "train", self.train),
            ("validation", "val", self.val),
            ("test", "test", self.test),
        ):
            lines.append(f"  {title:<10} {len(part):>9,} images: {self.metadata.origins[name]}")
        if self.metadata.passed_over:
            number, first = len(self.metadata.passed_over), self.metadata.passed_over[0]
            lines.append(f"  passed over {number:,} files that are no images by their extension, e.g. {first}")
        return "\n".join(lines)


def array_path(directory: Path, part: str, what: str) -> Path:
    return directory / f"{part}_{what}.npy"


def _map(path: Path, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}; prepare the data again") from None
    if array.shape != shape:
        raise UserError(f"{path}: must have the shape {shape}, got {array.shape}; prepare the data again")
    return array
