"""scikit-learn's 1,797 handwritten digits, which are installed with the library and need no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .source import FoundSource, Samples, Source

_MAX_PIXEL = 16
"""The digits' pixels are whole numbers from 0 to 16 (UCI, optical recognition of handwritten digits)."""


def find_digits() -> FoundSource:
    """Returns the digits as a source."""
    return FoundSource(fingerprint="", open=_open)


def _open() -> Source:
    images, labels = _images_and_labels()
    pixels = np.rint(images * (255 / _MAX_PIXEL)).astype(np.uint8)
    samples = Samples(
        where="digits",
        names=[str(index) for index in range(len(pixels))],
        labels=labels.astype(np.int64),
        load=lambda index: Image.fromarray(pixels[index]),
    )
    return Source(class_names=tuple(map(str, range(10))), parts={"train": samples}, flip=False)


def _images_and_labels() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns the images (1797, 8, 8), with values from 0 to 16, and their labels (1797,).

    Reads scikit-learn's file: importing the library takes a second. Asks the library if the file lies elsewhere.
    """
    spec = find_spec("sklearn")  # imports nothing
    file = None if spec is None or spec.origin is None else Path(spec.origin).parent / "datasets/data/digits.csv.gz"
    if file is not None and file.is_file():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images, digits.target
