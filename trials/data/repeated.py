"""Images that lie in more than one part: scores on them say little about new images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Digests = npt.NDArray[np.uint64]
"""The digests of a part's images, shape (n,)."""


def digest_of_pixels(pixels: npt.NDArray[np.uint8]) -> int:
    """Returns 64 bits that differ for different pixels: among a million images, almost certainly."""
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=8).digest(), "little")


def count_repeated(digests: Mapping[str, Digests]) -> dict[str, int]:
    """Returns how many validation images are training images too, and test images training or validation images.

    Parts without such images are left out.

    Args:
        digests: Those of the images of each part.
    """
    train, val, test = digests["train"], digests["val"], digests["test"]
    counts = {"val": np.isin(val, train).sum(), "test": np.isin(test, np.concatenate([train, val])).sum()}
    return {part: int(count) for part, count in counts.items() if count > 0}


def describe_repeated(repeated: Mapping[str, int], sizes: Mapping[str, int]) -> str:
    """Returns one line about images that are repeated.

    Args:
        repeated: What `count_repeated` returns, of at least one part.
        sizes: The number of images in each part.
    """
    names = {"val": "validation images are training images", "test": "test images are training or validation images"}
    told = [f"{count:,} of {sizes[part]:,} {names[part]}" for part, count in repeated.items()]
    return f"{' and '.join(told)} as well, pixel for pixel: errors on them are lower than on new images"
