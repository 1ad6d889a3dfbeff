"""scikit-learn's 1,797 handwritten digits, which are installed with the library and need no download."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .source import FoundSource, Samples, Source

_MAX_PIXEL = 16
"""The digits' pixels are whole numbers from 0 to 16 (UCI, optical recognition of handwritten digits)."""


def find_digits() -> FoundSource:
    """Returns the digits as a source."""
    return FoundSource(fingerprint="", open=_open)


def _open() -> Source:
    from sklearn.datasets import load_digits  # imported here, because it takes a second

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / _MAX_PIXEL)).astype(np.uint8)
    samples = Samples(
        where="digits",
        names=[str(index) for index in range(len(pixels))],
        labels=digits.target.astype(np.int64),
        load=lambda index: Image.fromarray(pixels[index]),
    )
    return Source(class_names=tuple(map(str, digits.target_names)), parts={"train": samples}, flip=False)
