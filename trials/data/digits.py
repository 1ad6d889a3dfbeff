"""scikit-learn's 1,797 handwritten digits: real images that come with an installed library and need no download."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .source import FoundSource, Samples, Source

_WHITEST = 16
"""The digits' pixels are whole numbers from 0 to 16 (UCI, optical recognition of handwritten digits)."""


def find_digits() -> FoundSource:
    return FoundSource(fingerprint="", open=_open)


def _open() -> Source:
    from sklearn.datasets import load_digits  # takes a second to import, which a folder's user does not have to wait

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / _WHITEST)).astype(np.uint8)
    samples = Samples(
        where="digits",
        names=[str(number) for number in range(len(pixels))],
        labels=digits.target.astype(np.int64),
        load=lambda index: Image.fromarray(pixels[index]),
    )
    return Source(class_names=tuple(map(str, digits.target_names)), parts={"train": samples}, flip=False)
