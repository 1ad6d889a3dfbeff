"""Stored soft labels of prepared images, which supernets, trials and finals learn in place of the images' classes.

A search shifts and mirrors its images: a pure function of seed, epoch and position, as in `trials.data.batching`. So
`soft-labels make --for search` stores what a teacher says of them, and all trainings of a search see what it saw. The
seed of the views is that of the labels: searches with other seeds see the same views, in an order of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, JsonValue

from sret_nas.arrays import IntArray
from sret_nas.errors import UserError
from sret_nas.files import digest_of_file
from sret_nas.plurals import counted

from ..data import PreparedData
from .soft_labels import MADE_FOR, Floats, SoftLabels, different_views

SEARCH = "search"
"""`MADE_FOR` of labels that supernets and searches read."""


def identify_prepared_views(data: PreparedData, seed: int) -> dict[str, JsonValue]:
    """Returns everything that decides which images the trainings of a search see: equal data, equal views."""
    return {
        MADE_FOR: SEARCH,
        "image size": data.config.image_size,
        "seed": seed,
        "mirroring": data.flip,
        "images (digest)": data.digest[:16],
    }


class PreparedLabels:
    """The labels in a file, checked to be those of the images of a training."""

    def __init__(self, path: Path, data: PreparedData) -> None:
        """Reads the header. Raises `UserError` if the file holds no such labels, naming what differs."""
        self._labels = SoftLabels(path)
        header = self._labels.header
        self.seed = header.seed
        """Of the views."""
        self.epochs = header.epochs
        """Epochs of views that are stored. A longer training sees them again, in another order."""
        self.temperature = header.temperature
        if header.made_for != SEARCH:
            raise UserError(
                f"{path}: holds soft labels of the images that `{header.made_for}` sees: make others with --for search"
            )
        if header.classes != data.num_classes:
            raise UserError(
                f"{path}: holds labels of {header.classes:,} classes, but the images have {data.num_classes:,}"
            )
        if (difference := different_views(identify_prepared_views(data, self.seed), header.views)) is not None:
            raise UserError(
                f"{path}: holds soft labels of other images, {difference}: give --data, its limits and split, "
                "and --image-size as they were made with, or make them anew"
            )

    def describe(self, epochs: int) -> str:
        """Returns where the labels come from, for people. `epochs` are those of the longest training."""
        header = self._labels.header
        more = "" if epochs <= header.epochs else f"; {counted(epochs, 'epoch')} of training use them again"
        return (
            f"{self._labels.path}, {counted(header.epochs, 'epoch')} of the teacher {header.teacher} at temperature "
            f"{header.temperature:g}{more}"
        )

    def targets(self, epoch: int, indices: IntArray, images: npt.NDArray[np.floating]) -> Floats:
        """Returns the teacher's probabilities (B, classes) of images, at its temperature.

        Args:
            epoch: of the views, below `epochs`.
            indices: the positions of the images in the training part (B,).
            images: (B, C, H, W), as the training sees them.

        Raises `UserError` if the teacher saw other images, or rows are damaged.
        """
        epochs = np.full_like(indices, epoch)
        self._labels.require_images(epochs, indices, images)
        return self._labels.targets(epochs, indices)


class SoftLabelSource(BaseModel):
    """A file of soft labels as it travels to workers: plain data."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # earlier versions recorded the seed of the views as well

    path: str
    digest: str
    """SHA-256 of the file's content."""

    @classmethod
    def of(cls, path: str, data: PreparedData) -> Self:
        """Returns the source of a file. Raises `UserError` if it does not fit the images."""
        PreparedLabels(Path(path), data)
        return cls(path=path, digest=digest_of_file(Path(path)))

    def describe(self, data: PreparedData, epochs: int) -> str:
        """Returns where the labels come from, for people. `epochs` are those of the longest training."""
        return PreparedLabels(Path(self.path), data).describe(epochs)

    def open(self, data: PreparedData) -> PreparedLabels:
        """Returns the labels. Raises `UserError` if the file is not on this machine, or has changed."""
        path = Path(self.path)
        if not path.is_file():
            raise UserError(
                f"{path}: the soft labels of the training are not on this machine: put them there, or say "
                "with --soft-labels where they are"
            )
        if digest_of_file(path) != self.digest:
            raise UserError(f"{path}: holds other soft labels than those that the training was begun with")
        return PreparedLabels(path, data)
