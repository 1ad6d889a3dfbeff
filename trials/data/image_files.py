"""Images at full resolution as arrays that a network takes: one file, or the images of a part, in order.

The preprocessing is that of timm's evaluation, number for number: the shorter side is resized, the centred square is
cut out, and each channel is standardised. It needs Pillow and NumPy alone, so that programs without torch can use it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from sret_nas.arrays import IntArray
from sret_nas.bounded_files import require_regular
from sret_nas.errors import UserError

from .decode import FORMATS, UNREADABLE, open_image, to_whole_image, without_warnings
from .leftovers import is_left_over
from .whole_images import UnreadableImageError, WholePart, mode_of

if TYPE_CHECKING:
    from sret_nas.nn.model_directory import Preprocessing

Pixels = npt.NDArray[np.float32]

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

MAX_RESIZED = 2**25
"""Pixels of a resized image, unless a square of `MIN_ASPECT` times its shorter side has more: 128 MB in Pillow."""
MIN_ASPECT = 8
"""Longer over shorter side up to which images are resized whole, however large they become."""

_QUEUED = 2
"""Batches that are decoded ahead of the one that is used."""


def mode_for(preprocessing: Preprocessing) -> Literal["L", "RGB"]:
    """Returns Pillow's mode of images for a network of 1 or 3 channels. Raises `UserError` for other channels."""
    if preprocessing.channels not in (1, 3):
        raise UserError(
            f"image files have 1 or 3 channels, but the network takes {preprocessing.channels}: it needs other data"
        )
    return mode_of(1 if preprocessing.channels == 1 else 3)


def to_array(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """Returns an image with 8 bits per channel as the network takes it: (channels, size, size), float32."""
    size = preprocessing.image_size
    resized = _with_shorter_side(image, math.floor(size / preprocessing.crop_fraction), preprocessing.interpolation)
    # Half a pixel is rounded to the even one, as torchvision does.
    left, top = round((resized.width - size) / 2), round((resized.height - size) / 2)
    square = np.asarray(resized.crop((left, top, left + size, top + size)), dtype=np.float32)
    pixels = (square[..., None] if square.ndim == 2 else square).transpose(2, 0, 1) / np.float32(255)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    standardised: Pixels = np.ascontiguousarray((pixels - mean) / std)
    return standardised


def _with_shorter_side(image: Image.Image, side: int, interpolation: str) -> Image.Image:
    image = without_far_ends(image, side)
    shorter = min(image.size)
    if shorter == side:
        return image
    width, height = (side if length == shorter else int(side * length / shorter) for length in image.size)
    return image.resize((width, height), _RESAMPLING[interpolation])


def without_far_ends(image: Image.Image, side: int) -> Image.Image:
    """Returns the middle of an image that would have too many pixels with a shorter side of `side`; others as they are.

    The ends are outside the centred square, but resizing the whole image would take memory without a bound.
    """
    shorter, longer = min(image.size), max(image.size)
    kept = max(MIN_ASPECT * shorter, MAX_RESIZED // side * shorter // side)
    if longer <= kept:
        return image
    kept -= (longer - kept) % 2  # so that the middle stays in the middle
    start = (longer - kept) // 2
    if image.width == longer:
        return image.crop((start, 0, start + kept, image.height))
    return image.crop((0, start, image.width, start + kept))


def read_image_file(path: Path, preprocessing: Preprocessing) -> Pixels:
    """Returns an image file as the network takes it: (channels, size, size), float32.

    Raises `UnreadableImageError`, naming the file, if it is missing, damaged, or not an image.
    """
    mode = mode_for(preprocessing)
    try:
        require_regular(path)
    except UserError as error:
        raise UnreadableImageError(str(error)) from None
    try:
        with without_warnings(), open_image(path) as image:
            return to_array(to_whole_image(image, mode), preprocessing)
    except UNREADABLE as error:
        raise UnreadableImageError(f"{path}: cannot be read: {error or type(error).__name__}") from None


def image_batches(
    part: WholePart, positions: Sequence[int], preprocessing: Preprocessing, *, batch_size: int, threads: int
) -> Iterator[tuple[Pixels, IntArray]]:
    """Yields images of a part with their labels, in order: ((B, channels, size, size) float32, (B,) int64).

    Args:
        part: the images.
        positions: which images, by their position in the part.
        preprocessing: what the network takes.
        batch_size: images of a batch; the last one may be smaller.
        threads: that decode. The next batches are decoded while one is used.

    Raises `UnreadableImageError`, naming the file.
    """
    mode = mode_for(preprocessing)
    starts = iter(range(0, len(positions), batch_size))

    def decode(index: int) -> Pixels:
        return to_array(part.load(index, mode), preprocessing)

    pool = ThreadPoolExecutor(threads)
    try:
        queue: deque[tuple[Sequence[int], list[Future[Pixels]]]] = deque()

        def submit(start: int) -> None:
            chosen = positions[start : start + batch_size]
            queue.append((chosen, [pool.submit(decode, index) for index in chosen]))

        for start in islice(starts, _QUEUED + 1):
            submit(start)
        while queue:
            chosen, images = queue.popleft()
            batch = np.stack([image.result() for image in images])
            yield batch, part.labels[np.asarray(chosen)]
            if (following := next(starts, None)) is not None:
                submit(following)
    finally:
        pool.shutdown(cancel_futures=True)


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Returns files as they are, and for folders the images in and below them, sorted by name.

    Hidden files, and what tools leave in image folders, are passed over. Links that lead nowhere are not, so that who
    reads the images can name them. Raises `UserError` for a path that does not exist, and for a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = [
            image
            for image in sorted(path.rglob("*"))
            if _is_visible_image(image.relative_to(path)) and not image.is_dir()
        ]
        if not inside:
            raise UserError(f"{path}: must hold images ({' '.join(FORMATS)}), got none")
        found += inside
    return found


def _is_visible_image(path: Path) -> bool:
    return path.suffix.lower() in FORMATS and not any(is_left_over(part) for part in path.parts)
