"""Decoded images that stay in memory, so that a process that trains on small images many times decodes them once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL import Image

MAX_KEPT_BYTES = 2**29
"""Bytes of pixels that are kept at most; further images are decoded each time."""

Mode = Literal["L", "RGB"]


class ImageMemory:
    """Pixels of images by key, up to a number of bytes."""

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._left = max_bytes
        self._pixels: dict[tuple[str, int, Mode], tuple[tuple[int, int], bytes]] = {}

    def get(self, part: str, index: int, mode: Mode, decode: Callable[[], Image.Image]) -> Image.Image:
        """Returns an image of a part: from memory, or decoded, and kept if there is room."""
        known = self._pixels.get((part, index, mode))
        if known is not None:
            from PIL import Image  # half as many bytes as Pillow's own memory, and a tenth of the time of decoding

            size, pixels = known
            return Image.frombytes(mode, size, pixels)
        image = decode()
        num_bytes = image.width * image.height * len(mode)
        if num_bytes <= self._left:
            self._left -= num_bytes
            self._pixels[part, index, mode] = image.size, image.tobytes()
        return image
