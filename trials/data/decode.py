"""Decodes image files of all common formats to 8-bit pixels of one size."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

Pixels = npt.NDArray[np.uint8]

UNREADABLE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, SyntaxError, struct.error, zlib.error),
    *(ArithmeticError, AssertionError, MemoryError, RuntimeError),
    Image.DecompressionBombError,
)
"""The exceptions that Pillow raises for a file that is damaged or not an image."""

FORMATS = {
    ".bmp": "BMP", ".gif": "GIF", ".jpeg": "JPEG", ".jpg": "JPEG", ".pbm": "PPM", ".pgm": "PPM", ".png": "PNG",
    ".pnm": "PPM", ".ppm": "PPM", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP",
}  # fmt: skip
"""Extensions of image files, in any case, and Pillow's readers for them.

A file is read by any of these readers that recognises it, since data sets have PNGs named JPEG. Pillow's other readers
are not used, because one of them starts Ghostscript.
"""

MAX_DECODED = 300 * 2**20
"""Maximum bytes of images being decoded by all threads together: one RGB image of 8,800 pixels a side."""

_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""Bytes of a pixel in Pillow's memory, by mode; 4 for all other modes."""

_ROWS = 256
"""Rows that are converted to 8 bits at a time."""

_GREY = ("1", "L", "LA")


class DecodingMemory:
    """A budget of bytes that threads share; a thread that needs more than is left waits for the others."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, num_bytes: int, advice: str = "make it smaller") -> Iterator[None]:
        """Reserves bytes while the block runs. Raises `ValueError` with the advice if they exceed the whole budget."""
        if num_bytes > self._max_bytes:
            raise ValueError(
                f"its pixels take {num_bytes / 2**20:,.0f} MB to decode, at most {self._max_bytes / 2**20:,.0f} MB are "
                f"used: {advice}"
            )
        with self._changed:
            self._changed.wait_for(lambda: self._used + num_bytes <= self._max_bytes)
            self._used += num_bytes
        try:
            yield
        finally:
            with self._changed:
                self._used -= num_bytes
                self._changed.notify_all()


_MEMORY = DecodingMemory(MAX_DECODED)


def open_image(path: Path) -> Image.Image:
    """Opens an image file without decoding it. Raises one of `UNREADABLE`."""
    return Image.open(path, formats=tuple(dict.fromkeys(FORMATS.values())))


class _Silence:
    """What `without_warnings` changes in the process, however many threads are inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._changes = ExitStack()

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._changes.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = None
                self._changes.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=r"PIL(\..*)?$")
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._changes.close()


_SILENCE = _Silence()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Suppresses Pillow's warnings in all threads; a file that really fails raises an error that names it.

    Pillow's own bound on pixels is off meanwhile: it would refuse large JPEGs, which are decoded at 1/8. `MAX_DECODED`
    bounds what is decoded. Both are as before when the last thread has left such a block.
    """
    _SILENCE.enter()
    try:
        yield
    finally:
        _SILENCE.leave()


def to_pixels(image: Image.Image, size: int) -> Pixels:
    """Returns the largest centred square of an image, resized (bicubic, antialiased) to `size` x `size` pixels.

    The shape is (size, size) for a greyscale image and (size, size, 3), RGB, for all others. EXIF orientation is
    applied, 16 bits are reduced to 8, and transparency becomes white. Raises one of `UNREADABLE`.
    """
    coefficients = _coefficient_bytes(image)
    image.draft(None, (2 * size, 2 * size))  # decodes a much larger JPEG at 1/2, 1/4 or 1/8, which is much faster
    advice = "save it as a JPEG that is not progressive, or make it smaller" if coefficients else "make it smaller"
    with _MEMORY.taken(_decoded_bytes(image) + coefficients, advice):
        return _to_pixels(image, size)


def _coefficient_bytes(image: Image.Image) -> int:
    """Returns the bytes of all coefficients of a progressive JPEG, which are in memory however small it is decoded."""
    if not image.info.get("progressive"):
        return 0
    samples: list[int] = [across * down for _, across, down, _ in getattr(image, "layer", ())]
    per_pixel = sum(samples) / max(samples, default=1)
    return round(2 * per_pixel * image.width * image.height)


def to_whole_image(image: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    """Returns a whole image with 8 bits per channel, grey (`L`) or in colour, as `to_pixels` reads it.

    Raises one of `UNREADABLE`.
    """
    with _MEMORY.taken(_decoded_bytes(image)):
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        image = _eight_bit(image)
        return image if image.mode == mode else image.convert(mode)


def has_colour(image: Image.Image) -> bool:
    """Returns whether `to_pixels` reads an image in colour, which its header says."""
    return image.mode not in _GREY and not image.mode.startswith("I") and image.mode != "F"


def _decoded_bytes(image: Image.Image) -> int:
    """Returns an estimate of the peak bytes of an image's pixels, including the copies made while decoding."""
    bytes_per_pixel = _BYTES.get(image.mode, 4)
    copies = 1
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        copies += 1
    if _is_transparent(image):
        bytes_per_pixel, copies = 4, copies + 2
    if image.mode.startswith("I"):
        copies += 1
    return image.width * image.height * bytes_per_pixel * copies


def _to_pixels(image: Image.Image, size: int) -> Pixels:
    ImageOps.exif_transpose(image, in_place=True)
    image = _eight_bit(image)
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    square = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return np.asarray(square)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Returns the image in mode L or RGB."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, which have no fixed range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return _from_sixteen_bit(np.asarray(image))
    mode = "L" if image.mode in _GREY else "RGB"
    if _is_transparent(image):
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas
    return image if image.mode == mode else image.convert(mode)


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info


def _from_sixteen_bit(values: npt.NDArray[np.integer]) -> Image.Image:
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels have more than 16 bits; save it with 8 or 16 bits")
    reduced = np.empty(values.shape, dtype=np.uint8)
    for row in range(0, len(values), _ROWS):  # the float quotients of all rows would take four times the image
        reduced[row : row + _ROWS] = np.rint(values[row : row + _ROWS] / 257)
    return Image.fromarray(reduced)
