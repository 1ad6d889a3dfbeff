"""Reads soft labels in the format of FKD (Shen and Xing, ECCV 2022, github.com/szq0214/FKD).

A folder holds one file for each image, `train/CLASS/NAME.tar`, written by `torch.save`: a list of crops (M, 4) as
fractions of the image (top, left, height, width), of flips (M,), and of labels. Labels are hard (M,), the best class
and its probability (M, 2), or the k best classes and their probabilities (M, 2, k). Such files are read, never written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.bounded_files import require_regular
from sret_nas.errors import UserError
from sret_nas.files import digest_of_file
from sret_nas.nn.checkpoints import read_checkpoint

from ..seeds import seed_from
from .soft_labels import Floats, spread

MAX_CROPS = 100_000
"""Crops of one image in a file. FKD's own files have 500."""

DIGESTED = 1_000
"""Files whose content tells labels apart, at least; fewer than twice as many are read."""

MAX_HALF_PRECISION_CLASSES = 2_049
"""Classes up to which float16, in which some files keep class indices too, tells all of them apart."""

_TENSORS = (torch.float16, torch.float32, torch.float64, torch.int32, torch.int64, torch.bool)
"""Types of tensors that are read; NumPy has no others that matter here."""

_RECONSTRUCT, _SCALAR = np.array(0).__reduce__()[0], np.float64(0).__reduce__()[0]
"""The functions of NumPy that build an array and a number from their bytes."""

_GLOBALS: list[Any] = [
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float16", "float32", "float64", "int64", "int32", "bool")),
    *(
        (function, f"numpy.{core}.multiarray.{name}")
        for function, name in ((_RECONSTRUCT, "_reconstruct"), (_SCALAR, "scalar"))
        for core in ("core", "_core")
    ),
]
"""What NumPy's arrays need to be read with `weights_only`: plain data, under the names of NumPy 1 and 2."""


@dataclass(frozen=True)
class FKDImage:
    """The labels of one image: a crop, a flip, and the teacher's most probable classes for each of M views."""

    crops: FloatArray
    """(M, 4): top, left, height and width, as fractions of the image's sides."""
    flips: npt.NDArray[np.bool_]
    """(M,): whether the crop is mirrored."""
    classes: IntArray
    """(M, k)."""
    probabilities: Floats
    """(M, k)."""

    def __len__(self) -> int:
        return len(self.flips)


class FKDLabels:
    """A folder of FKD's files."""

    def __init__(self, folder: Path, classes: int) -> None:
        """Checks that the folder is there. Raises `UserError` otherwise.

        Args:
            folder: with the classes' folders in it, or in a folder `train` in it.
            classes: number of classes of the data.
        """
        if not folder.is_dir():
            raise UserError(
                f"{folder}: must be a folder of FKD's soft labels, with a file CLASS/NAME.tar for each image"
            )
        self.folder = folder / "train" if (folder / "train").is_dir() else folder
        self.classes = classes

    def file_of(self, name: str) -> Path:
        """Returns the file of an image named `CLASS/NAME.EXTENSION`. FKD cuts names at their first dot."""
        return self.folder / f"{name.split('.', maxsplit=1)[0]}.tar"

    def digest(self, names: Sequence[str]) -> str:
        """Returns a SHA-256 over the labels of images, in hexadecimal, that changes if they are made anew.

        It covers names and sizes of all their files, and the content of `DIGESTED` evenly spaced ones: all of them can
        be hundreds of gigabytes. Raises `UserError` if a file is missing.
        """
        digest, step = hashlib.sha256(), max(1, len(names) // DIGESTED)
        for position, name in enumerate(names):
            path = self.file_of(name)
            digest.update(os.fsencode(path.relative_to(self.folder)) + b"\0%d\0" % require_regular(path))
            if position % step == 0:
                digest.update(digest_of_file(path).encode())
        return digest.hexdigest()

    def read(self, name: str) -> FKDImage:
        """Returns the labels of an image named `CLASS/NAME.EXTENSION`.

        Runs no code in the file. Raises `UserError` if it is missing, damaged, or of other classes.
        """
        path = self.file_of(name)
        with torch.serialization.safe_globals(_GLOBALS):
            content = read_checkpoint(path)
        if not isinstance(content, list | tuple) or len(content) != 3:
            raise UserError(f"{path}: must hold crops, flips and labels, as FKD writes them")
        crops, flips, labels = (_array(part, path) for part in content)
        return self._image(crops, flips, labels, path)

    def _image(self, crops: Any, flips: Any, labels: Any, path: Path) -> FKDImage:
        number = len(flips) if flips.ndim == 1 and labels.ndim >= 1 else -1
        if not 1 <= number <= MAX_CROPS or crops.shape != (number, 4) or len(labels) != number:
            raise UserError(f"{path}: must hold as many crops as flips and labels, at most {MAX_CROPS:,}")
        if labels.dtype == np.float16 and self.classes > MAX_HALF_PRECISION_CLASSES:
            raise UserError(f"{path}: float16 cannot tell the {self.classes:,} classes apart")
        if labels.ndim == 1:
            classes, probabilities = labels[:, None], np.ones((number, 1))
        elif labels.shape == (number, 2):
            classes, probabilities = labels[:, :1], labels[:, 1:]
        elif labels.ndim == 3 and labels.shape[1] == 2 and labels.shape[2] >= 1:
            classes, probabilities = labels[:, 0], labels[:, 1]
        else:
            raise UserError(f"{path}: must hold hard, smoothed or marginal labels, got the shape {labels.shape}")
        in_image = (crops[:, :2] >= 0).all() and (crops[:, 2:] > 0).all() and (crops <= 1.01).all()
        if not in_image or not ((probabilities >= 0) & (probabilities <= 1.01)).all():
            raise UserError(f"{path}: is damaged: crops and probabilities must lie between 0 and 1")
        if not ((classes >= 0) & (classes < self.classes)).all() or classes.shape[1] > self.classes:
            raise UserError(f"{path}: holds labels of other classes: the data have {self.classes:,}")
        return FKDImage(
            crops.astype(np.float64), flips.astype(bool), classes.astype(np.int64), probabilities.astype(np.float32)
        )

    def targets(self, image: FKDImage, views: IntArray) -> Floats:
        """Returns the dense probabilities (B, classes) of some views of an image."""
        return spread(image.classes[views], image.probabilities[views], self.classes)


def view_of(seed: int, epoch: int, index: int, views: int) -> int:
    """Returns the number of the view of an image that a training sees in an epoch: drawn from all that were stored."""
    return seed_from(f"FKD view {seed}/{epoch}/{index}") % views


def _array(value: object, path: Path) -> npt.NDArray[Any]:
    if isinstance(value, torch.Tensor) and value.dtype in _TENSORS:
        value = value.detach().numpy()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fib" or not np.isfinite(value).all():
        raise UserError(f"{path}: must hold arrays of finite numbers, as FKD writes them")
    return value
