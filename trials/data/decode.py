"""Image files of every common kind to 8-bit pixels of one size."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Pixels = npt.NDArray[np.uint8]

UNREADABLE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, TypeError, IndexError, SyntaxError, struct.error),
    Image.DecompressionBombError,
)
"""What Pillow's readers raise for a file that is damaged or not an image."""

_GREY = ("1", "L", "LA")


def to_pixels(image: Image.Image, size: int) -> Pixels:
    """The largest centred square of an upright image, resized (bicubic, antialiased) to `size` x `size` pixels.

    Returns (size, size) for an image that is stored as grey and (size, size, 3), RGB, for every other. EXIF
    orientation is applied; 16 bits become 8; what is transparent becomes white. Raises one of `UNREADABLE`.
    """
    image.draft(None, (2 * size, 2 * size))  # a JPEG far too large is decoded at 1/2, 1/4 or 1/8, which is much faster
    ImageOps.exif_transpose(image, in_place=True)
    image = _eight_bit(image)
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    square = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return np.asarray(square)


def _eight_bit(image: Image.Image) -> Image.Image:
    """The same image in mode L or RGB."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, which have no fixed range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return _from_sixteen_bit(np.asarray(image))
    mode = "L" if image.mode in _GREY else "RGB"
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas
    return image if image.mode == mode else image.convert(mode)


def _from_sixteen_bit(values: npt.NDArray[np.integer]) -> Image.Image:
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels have more than 16 bits; save it with 8 or 16 bits")
    return Image.fromarray(np.rint(values / 257).astype(np.uint8))
