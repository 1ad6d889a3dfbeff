"""Prepared data: the three parts as decoded pixels in memory-mapped files, so that all workers share one copy.

Opening checks the types and shapes of the arrays; `PreparedData.verify` checks every byte.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.errors import UserError, printable
from sret_nas.files import write_atomically
from sret_nas.plurals import counted

from .config import DataConfig
from .repeated import describe_repeated
from .source import PARTS

FORMAT = 1
"""Version of the files' format; it changes whenever equal configurations would give different files."""

METADATA = "data.json"

CHECKSUM = "checksum"
"""Key of the metadata with a checksum of all others. Files of earlier versions have none."""

NAMED_CLASSES = 10
"""Maximum number of class names in a summary."""

FileState = tuple[int, int, int, int]
"""Device, inode, bytes and time of modification (ns) of a file, which change when it is written again."""


class ImagesChangedError(UserError):
    """Prepared images changed after they were opened, so results computed since then cannot be trusted."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the prepared images changed while they were in use: {problem}")


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedPart:
    """The images of one part, with the constants of normalisation, which all parts share.

    Every prefix is stratified by class, such as `images[:500]`.
    """

    images: npt.NDArray[np.uint8]
    """Shape (n, h, w, c), c = 1 (grey) or 3 (RGB), read-only."""
    labels: IntArray
    """Class indices, shape (n,)."""
    mean: tuple[float, ...]
    """Mean of the training part's channels, shape (c,), for pixels scaled to [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation of them, shape (c,); at least 1/255, so that a constant channel can be divided by it."""
    flip: bool
    """Whether a mirrored image keeps its class."""
    class_weights: tuple[float, ...] | None = None
    """The weight of an image of each class in an error; None if all images count alike."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_weights(self) -> FloatArray | None:
        """The weight of each image, shape (n,); None if all count alike."""
        return None if self.class_weights is None else np.array(self.class_weights)[self.labels]

    @property
    def effective_images(self) -> float:
        """How many images of equal weight would tell an error as exactly (Kish's effective sample size)."""
        weights = self.image_weights
        return float(len(self)) if weights is None else float(weights.sum() ** 2 / (weights**2).sum())

    def balanced(self) -> Self:
        """Returns the same images with weights by which every class that has images counts alike.

        The weights add up to the number of images. A prefix keeps those of the whole, so that errors on parts of the
        images can be merged.
        """
        counts = np.bincount(self.labels)
        present = np.count_nonzero(counts)
        weights = np.where(counts > 0, len(self) / (present * np.maximum(counts, 1)), 0.0)
        return replace(self, class_weights=tuple(weights.tolist()))


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """The content of `METADATA`: the origin of the arrays, and their constants and shapes."""

    config: DataConfig
    fingerprint: str
    """Digest of the source's files when they were decoded; empty if the content is fixed by the source's name."""
    class_names: tuple[str, ...]
    flip: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    shapes: Mapping[str, tuple[int, ...]]
    origins: Mapping[str, str]
    """The origin of each part, in words."""
    passed_over: tuple[str, ...]
    """Files among the images without an image extension."""
    left_out: tuple[str, ...] = ()
    """Images that could not be read, each with the reason; empty unless the configuration leaves them out."""
    repeated: Mapping[str, int] = field(default_factory=dict)
    """What `count_repeated` returns; empty in files of earlier versions, which did not count."""

    def write(self, directory: Path) -> None:
        """Writes the metadata with a checksum into a directory."""
        fields = json.loads(json.dumps({"format": FORMAT, **asdict(self)}))
        text = json.dumps({**fields, CHECKSUM: _checksum(fields)}, indent=1)
        write_atomically(directory / METADATA, text + "\n")

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Returns the metadata in a directory. Raises `UserError` if it is missing, damaged or of another version."""
        path = directory / METADATA
        if not os.path.lexists(path):
            raise UserError(f"{directory}: holds no prepared data ({METADATA} is missing); prepare it first")
        try:
            _require_regular(path)
            fields = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: cannot be read: {error}; prepare the data again") from None
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise UserError(f"{path}: was not written by this version; prepare the data again")
        checksum = fields.pop(CHECKSUM, None)
        if checksum is not None and checksum != _checksum(fields):
            raise UserError(f"{path}: has changed since it was written; prepare the data again")
        try:
            metadata = TypeAdapter(cls).validate_python(fields)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise UserError(f"{path}: {where} is missing or not what it should be; prepare the data again") from None
        except UserError as error:
            raise UserError(f"{path}: {error}; prepare the data again") from None
        metadata._require_consistent(path)
        return metadata

    def _require_consistent(self, path: Path) -> None:
        """Raises `UserError` unless parts, shapes, channels and constants are consistent."""
        size = self.config.image_size
        channels = {shape[3] for shape in self.shapes.values() if len(shape) == 4}
        rules = {
            "shapes": self.shapes.keys() == set(PARTS)
            and all(len(shape) == 4 and shape[0] > 0 and shape[1:3] == (size, size) for shape in self.shapes.values())
            and channels in ({1}, {3}),
            "origins": self.origins.keys() == set(PARTS),
            "repeated": self.repeated.keys() <= {"val", "test"},
            "mean": {len(self.mean)} == channels and all(math.isfinite(value) for value in self.mean),
            "std": {len(self.std)} == channels and all(math.isfinite(value) and value > 0 for value in self.std),
            "class_names": len(set(self.class_names)) == len(self.class_names) >= 2,
        }
        for name, holds in rules.items():
            if not holds:
                raise UserError(f"{path}: {name} is not what it should be; prepare the data again")


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedData:
    """A data set that is ready for training. `open` takes milliseconds, and unpickling in a worker opens it again."""

    directory: Path
    metadata: Metadata
    train: PreparedPart
    val: PreparedPart
    """The part that scores trials."""
    test: PreparedPart
    """The part that no trial uses; only finished networks are scored on it."""
    files: dict[Path, FileState | None]
    """States of the arrays' files when they were last known to be undamaged; None for a deleted file."""
    notes: tuple[str, ...] = ()
    """Lines for people that say how the source was understood."""

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Returns the data that `prepare` wrote to a directory.

        Raises `UserError` if it is missing, or if the arrays do not have the types and shapes in the metadata.
        """
        metadata = Metadata.read(directory)
        files: dict[Path, FileState | None] = {}
        shared: dict[str, Any] = {"mean": metadata.mean, "std": metadata.std, "flip": metadata.flip}
        parts: dict[str, Any] = {}
        for part in PARTS:
            for what in ("images", "labels"):
                path = array_path(directory, part, what)
                files[path] = _state(path)
            images = _map(array_path(directory, part, "images"), metadata.shapes[part], np.dtype(np.uint8))
            path = array_path(directory, part, "labels")
            labels = _map(path, metadata.shapes[part][:1], np.dtype(np.int64))
            if labels.min() < 0 or labels.max() >= len(metadata.class_names):
                raise UserError(f"{path}: must have the numbers of {len(metadata.class_names)} classes; {_AGAIN}")
            parts[part] = PreparedPart(images=images, labels=labels, **shared)
        return cls(directory=directory, metadata=metadata, files=files, **parts)

    def with_balanced_errors(self) -> Self:
        """Returns the same data, with errors on validation and test images that count every class alike."""
        return replace(self, val=self.val.balanced(), test=self.test.balanced())

    def verify(self) -> None:
        """Reads all arrays and compares them with their digest. Raises `UserError` if a byte has changed.

        It takes 0.6 s on one core per gigabyte that is cached in memory, or the time that the disk takes.
        """
        parts = {part: getattr(self, part) for part in PARTS}
        digest = digest_of(
            self.class_names,
            {name: part.images for name, part in parts.items()},
            {name: part.labels for name, part in parts.items()},
        )
        if digest != self.digest:
            raise UserError(f"{self.directory}: the prepared images have changed since they were prepared; {_AGAIN}")

    @property
    def num_bytes(self) -> int:
        """The bytes of all arrays."""
        return sum(part.images.nbytes + part.labels.nbytes for part in (self.train, self.val, self.test))

    def require_unchanged(self) -> None:
        """Raises `ImagesChangedError` if the mapped arrays have changed since they were prepared.

        It takes microseconds unless the files were touched; then everything is read again. Files that were deleted or
        replaced stay mapped, so that is no change.
        """
        now = {path: _state(path) for path in self.files}
        if now == self.files:
            return
        for path, state in now.items():
            before = self.files[path]
            if state is not None and before is not None and state[:2] == before[:2] and state[2] < before[2]:
                raise ImagesChangedError(f"{path} was cut short")  # reading beyond its end would kill the process
        try:
            self.verify()
        except UserError as error:
            raise ImagesChangedError(str(error).removesuffix(f"; {_AGAIN}")) from None
        self.files.update(now)

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
        """The digest of classes, images and labels of all parts: 64 hexadecimal digits."""
        return self.metadata.digest

    def summary(self) -> str:
        """Returns a few lines for people about the classes, the parts and their origins."""
        size = self.config.image_size
        kind = "grey" if self.channels == 1 else "colour"
        classes = counted(self.num_classes, "class", "classes")
        flips = "mirrored at random in training" if self.flip else "never mirrored"
        lines = [
            f"{self.config.source}: {classes}, {kind} images of {size} x {size} px, {flips}",
            f"  classes    {self._classes()}",
        ]
        for title, name, part in (
            ("training", "train", self.train),
            ("validation", "val", self.val),
            ("test", "test", self.test),
        ):
            lines.append(f"  {title:<10} {len(part):>9,} images: {self.metadata.origins[name]}")
        if self.metadata.passed_over:
            count, first = len(self.metadata.passed_over), self.metadata.passed_over[0]
            files = counted(count, "file that is no image by its", "files that are no images by their")
            lines.append(f"  passed over {files} extension, e.g. {first}")
        if self.metadata.left_out:
            count, first = len(self.metadata.left_out), self.metadata.left_out[0]
            lines.append(f"  left out {counted(count, 'image')} that cannot be read, e.g. {first}")
        if self.metadata.repeated:
            sizes = {part: shape[0] for part, shape in self.metadata.shapes.items()}
            lines.append(f"  note: {describe_repeated(self.metadata.repeated, sizes)}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def _classes(self) -> str:
        """Returns the first class names, each with its number of images in all parts together."""
        labels = np.concatenate([part.labels for part in (self.train, self.val, self.test)])
        counts = np.bincount(labels, minlength=self.num_classes)
        first = [f"{printable(name)} ({count:,})" for name, count in zip(self.class_names, counts, strict=True)][
            :NAMED_CLASSES
        ]
        more = f" and {self.num_classes - NAMED_CLASSES:,} more" if self.num_classes > NAMED_CLASSES else ""
        return ", ".join(first) + more


def array_path(directory: Path, part: str, what: str) -> Path:
    """Returns the file of a part's `images` or `labels`."""
    return directory / f"{part}_{what}.npy"


def digest_of(
    class_names: tuple[str, ...], images: Mapping[str, npt.NDArray[np.uint8]], labels: Mapping[str, IntArray]
) -> str:
    """Returns the SHA-256 of class names, shapes, labels and images of all parts, in hexadecimal."""
    digest = hashlib.sha256(json.dumps([class_names, [list(images[part].shape) for part in PARTS]]).encode())
    for part in PARTS:
        digest.update(labels[part].astype("<i8").tobytes())
        for start in range(0, len(images[part]), 1024):
            digest.update(np.ascontiguousarray(images[part][start : start + 1024]).data)
    return digest.hexdigest()


_AGAIN = "prepare the data again"


def _map(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    try:
        _require_regular(path)
        array: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a damaged header can make NumPy's reader raise anything
        raise UserError(f"{path}: cannot be read as an array: {error or type(error).__name__}; {_AGAIN}") from None
    if (array.shape, array.dtype) != (shape, dtype):
        raise UserError(f"{path}: must be {dtype} of shape {shape}, got {array.dtype} of shape {array.shape}; {_AGAIN}")
    return array


def _state(path: Path) -> FileState | None:
    """Returns the state of a file; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _require_regular(path: Path) -> None:
    """Raises `OSError` for a folder, and for a pipe, on which reading would block."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
