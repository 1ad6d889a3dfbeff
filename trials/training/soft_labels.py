"""Stored soft labels: what a teacher said of every view of every image, so that trainings need no teacher.

A view of an image is a pure function of seed, epoch and index, so a training that replays the same views reads the same
labels (Wu et al., TinyViT, ECCV 2022). The file has a header of fixed length (JSON), then a row for each epoch and
image: the k most probable classes (int16), their probabilities (float16), and a fingerprint of the image that the
teacher saw (float32). At k = 10 that is 44 bytes.

The fingerprint proves that a training sees the same images. Its tolerance covers rounding on other processors.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictFloat, StrictInt, StrictStr, model_validator

from sret_nas.arrays import IntArray
from sret_nas.bounded_files import open_regular
from sret_nas.errors import UserError, describe
from sret_nas.files import validate
from sret_nas.json_files import parse_json
from sret_nas.output_files import require_free

Floats = npt.NDArray[np.float32]

MAGIC = b"SRETSOFT"
HEADER_BYTES = 16_384
"""Bytes of the header, with `MAGIC`; unused ones are spaces."""

MAX_CLASSES = 32_767
"""Most classes. Their indices, from 0, fit into int16, which would hold one class more."""

UNFINISHED = ".unfinished"
"""Ending of the file while it is being written."""

TOLERANCE = 2e-3
"""Difference of fingerprints, absolute and relative, up to which images count as equal."""

MADE_FOR = "made for"
"""Key of the views that names the command; files for `train` have none."""

MAX_EXCESS = 0.01
"""By which stored probabilities may exceed 1 in sum, after rounding to float16."""


class SoftLabelHeader(BaseModel):
    """What a file of soft labels says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    teacher: StrictStr
    """The teacher as it was named."""
    teacher_digest: StrictStr | None
    """SHA-256 of its weights' file; None if they came from a hub."""
    temperature: Annotated[StrictFloat, Field(gt=0, le=1000, allow_inf_nan=False)]
    """By which the teacher's logits were divided."""
    classes: Annotated[StrictInt, Field(ge=2, le=MAX_CLASSES)]
    top: Annotated[StrictInt, Field(ge=1, le=MAX_CLASSES)]
    """Classes stored of each view (k)."""
    images: Annotated[StrictInt, Field(ge=1, le=2**40)]
    epochs: Annotated[StrictInt, Field(ge=1, le=1_000_000)]
    views: dict[str, JsonValue]
    """Everything that decides which images the teacher saw: data, seed, augmentation."""
    versions: dict[str, str]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.top > self.classes:
            raise ValueError(f"top must be at most the number of classes, {self.classes}, got {self.top}")
        seed = self.views.get("seed")
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**64:
            raise ValueError(f"views must hold a seed, a whole number from 0 to 2^64 - 1, got {describe(seed)}")
        return self

    @property
    def made_for(self) -> str:
        """The command whose trainings see these views: `train` or `search`."""
        return str(self.views.get(MADE_FOR, "train"))

    @property
    def seed(self) -> int:
        """The seed of the views. A training with another seed sees the same views, in its own order."""
        seed = self.views["seed"]
        assert isinstance(seed, int)  # as it was validated
        return seed

    @property
    def row(self) -> np.dtype[Any]:
        """The type of a row."""
        return np.dtype(
            [("classes", "<i2", (self.top,)), ("probabilities", "<f2", (self.top,)), ("fingerprint", "<f4")]
        )

    @property
    def rows(self) -> int:
        return self.images * self.epochs

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole file."""
        return HEADER_BYTES + self.rows * self.row.itemsize

    def encode(self) -> bytes:
        """Returns the header's bytes. Raises `UserError` if it is too long."""
        text = MAGIC + json.dumps(self.model_dump(mode="json")).encode()
        if len(text) > HEADER_BYTES:
            raise UserError(f"the header of soft labels must have at most {HEADER_BYTES:,} bytes, got {len(text):,}")
        return text.ljust(HEADER_BYTES)

    @classmethod
    def decode(cls, content: bytes, source: str) -> Self:
        """Returns the header in the first bytes of a file. Raises `UserError` if there is none."""
        if not content.startswith(MAGIC):
            raise UserError(f"{source}: does not hold soft labels, such as `soft-labels make` writes")
        if len(content) < HEADER_BYTES:
            raise UserError(f"{source}: is cut short: it ends inside its header")
        return validate(cls, parse_json(content[len(MAGIC) : HEADER_BYTES].rstrip(b" "), source), source)


def fingerprints(images: npt.NDArray[np.floating]) -> Floats:
    """Returns a number for each image (B, C, H, W) that changes if it is cropped, mirrored or coloured otherwise.

    It is a mean over all pixels, weighted by their position.
    """
    _, channels, height, width = images.shape
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    weights = (1 + rows + 0.5 * columns) * np.linspace(0.5, 1, channels)[:, None, None]
    flat = images.astype(np.float32, copy=False).reshape(len(images), -1)
    means: Floats = flat @ (weights / weights.size).astype(np.float32).ravel()
    return means


def best_classes(probabilities: Floats, top: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float16]]:
    """Returns the `top` most probable classes of each row (B, classes), best first, and their probabilities."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return order.astype(np.int16), np.take_along_axis(probabilities, order, axis=1).astype(np.float16)


def spread(classes: npt.NDArray[np.integer], probabilities: npt.NDArray[np.floating], num_classes: int) -> Floats:
    """Returns dense probabilities (B, num_classes) from those of some classes (B, k).

    What they leave of 1 is spread evenly over the other classes. Without other classes, they are scaled to sum to 1.
    """
    kept = probabilities.astype(np.float32)
    others = num_classes - classes.shape[1]
    if others == 0:
        kept = kept / kept.sum(axis=1, keepdims=True)
    rest = np.maximum(1 - kept.sum(axis=1, keepdims=True), 0) / max(1, others)
    dense = np.repeat(rest.astype(np.float32), num_classes, axis=1)
    np.put_along_axis(dense, classes.astype(np.int64), kept, axis=1)
    return dense


class SoftLabelWriter:
    """Writes soft labels row by row, in the order of epochs and images. An interrupted file is carried on.

    The file has another name until it is whole, so that no training reads a part of it.
    """

    def __init__(self, path: Path, header: SoftLabelHeader, reads: Sequence[Path] = (), force: bool = False) -> None:
        """Opens the file, and finds how many rows an earlier process has written.

        Raises `UserError` if there is a file already, an unfinished one of other labels, or another process writes it.
        """
        self.path, self.header, self._reads, self._force = path, header, tuple(reads), force
        self.unfinished = path.with_name(path.name + UNFINISHED)
        require_free([path], reads=self._reads, force=force)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.unfinished, "a+b")  # noqa: SIM115 - closed in `close`
        try:
            self.done = self._begin()
        except BaseException:
            self._file.close()
            raise

    def _begin(self) -> int:
        """Locks the file, and returns the number of whole rows in it. A row that was cut short is dropped."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{self.unfinished}: another process is writing it: wait for that, or end it") from None
        size = os.fstat(self._file.fileno()).st_size
        encoded = self.header.encode()
        if size < HEADER_BYTES:
            self._file.truncate(0)
            self._file.write(encoded)
            self._file.flush()
            return 0
        self._file.seek(0)
        found = SoftLabelHeader.decode(self._file.read(HEADER_BYTES), str(self.unfinished))
        if (difference := _first_difference(self.header, found)) is not None:
            raise UserError(
                f"{self.unfinished}: holds other soft labels, {difference}: remove it, or name another --out"
            )
        rows = min((size - HEADER_BYTES) // self.header.row.itemsize, self.header.rows)
        self._file.truncate(HEADER_BYTES + rows * self.header.row.itemsize)
        return rows

    def append(self, probabilities: Floats, seen: Floats) -> None:
        """Appends the rows of the next views.

        Args:
            probabilities: the teacher's (B, classes).
            seen: fingerprints of the images (B,).

        Raises `UserError` for probabilities that are not finite. Nothing is appended then.
        """
        if not np.isfinite(probabilities).all():
            wrong = probabilities[~np.isfinite(probabilities)][0]
            raise UserError(
                f"the teacher {self.header.teacher} must give finite probabilities, got {wrong}: its weights or its "
                "images are out of range, so name another teacher"
            )
        rows = np.empty(len(probabilities), self.header.row)
        rows["classes"], rows["probabilities"] = best_classes(probabilities, self.header.top)
        rows["fingerprint"] = seen
        with self._named_in_errors():
            self._file.write(rows.tobytes())
        self.done += len(rows)

    def flush(self) -> None:
        """Makes sure that what was appended survives a crash of the machine."""
        with self._named_in_errors():
            self._file.flush()
            os.fsync(self._file.fileno())

    @contextmanager
    def _named_in_errors(self) -> Iterator[None]:
        """Names the file in errors of the system, which does so when opening fails, not when writing does."""
        try:
            yield
        except OSError as error:
            if error.errno is not None:
                error.filename = str(self.unfinished)
            raise

    def finish(self) -> None:
        """Gives the file its name. Raises `UserError` if another one has it by now."""
        assert self.done == self.header.rows
        self.flush()
        require_free([self.path], reads=self._reads, force=self._force)
        os.replace(self.unfinished, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._named_in_errors():
            self._file.close()


def _first_difference(wanted: SoftLabelHeader, found: SoftLabelHeader) -> str | None:
    """Returns what differs, in words; None if nothing does. Versions of libraries may differ."""
    for name in SoftLabelHeader.model_fields:
        if name == "views":
            if (difference := different_views(wanted.views, found.views)) is not None:
                return difference
        elif name != "versions" and (is_one := getattr(found, name)) != (should_be := getattr(wanted, name)):
            return f"whose {name.replace('_', ' ')} is {describe(is_one)}, not {describe(should_be)}"
    return None


def different_views(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """Returns the first key by which the views of two trainings differ, in words; None if they are the same."""
    for name in (*wanted, *(name for name in found if name not in wanted)):
        if wanted.get(name) != found.get(name):
            return f"whose {name} is {describe(found.get(name))}, not {describe(wanted.get(name))}"
    return None


class SoftLabels:
    """A whole file of soft labels. Rows are read from the disk as they are needed."""

    def __init__(self, path: Path) -> None:
        """Reads the header. Raises `UserError` if the file holds no soft labels, or not all of them."""
        self.path = path
        with open_regular(path) as file:
            self.header = SoftLabelHeader.decode(file.read(HEADER_BYTES), str(path))
            size = os.fstat(file.fileno()).st_size
        if size != self.header.num_bytes:
            what = "is cut short" if size < self.header.num_bytes else "is too long"
            raise UserError(f"{path}: {what}: it must have {self.header.num_bytes:,} bytes, got {size:,}")
        self._rows = np.memmap(path, self.header.row, "r", HEADER_BYTES, (self.header.epochs, self.header.images))

    def require_views(self, views: Mapping[str, JsonValue]) -> None:
        """Raises `UserError` if a training sees other images than the teacher did, naming what differs."""
        if (difference := different_views(views, self.header.views)) is not None:
            raise UserError(
                f"{self.path}: holds soft labels of other images, {difference}: train with what they were made with, "
                "or make them anew"
            )

    def targets(self, epochs: IntArray, indices: IntArray) -> Floats:
        """Returns the probabilities (B, classes) of views, at the header's temperature.

        Args:
            epochs: the epoch of each view (B,). A training that is longer than the labels replays them: it takes
                `epoch % header.epochs` for views and labels alike.
            indices: the position of each image in the training part (B,).

        Raises `UserError` for rows that are damaged.
        """
        rows = self._rows[epochs, indices]
        classes, probabilities = rows["classes"], rows["probabilities"].astype(np.float32)
        is_sound = (
            (classes >= 0).all()
            and (classes < self.header.classes).all()
            and (probabilities >= 0).all()
            and (probabilities.sum(axis=1) <= 1 + MAX_EXCESS).all()
            and (probabilities.sum(axis=1) > 0).all()
        )
        if not is_sound:
            raise UserError(f"{self.path}: is damaged: classes or probabilities are out of range; make it anew")
        return spread(classes, probabilities, self.header.classes)

    def require_images(self, epochs: IntArray, indices: IntArray, images: npt.NDArray[np.floating]) -> None:
        """Raises `UserError` unless images (B, C, H, W) are those that the teacher saw at these epochs and indices."""
        stored, seen = self._rows[epochs, indices]["fingerprint"], fingerprints(images)
        differs = ~np.isclose(seen, stored, rtol=TOLERANCE, atol=TOLERANCE)
        if differs.any():
            first = int(np.argmax(differs))
            raise UserError(
                f"{self.path}: the teacher saw another image in epoch {epochs[first]} at position {indices[first]}: "
                "images have changed, or another version of Pillow or timm augments them otherwise; make it anew"
            )
