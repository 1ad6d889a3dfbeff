"""Decodes a few images of a data set, each part's first, without preparing all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from sret_nas.errors import UserError

from .config import DataConfig
from .decode import FORMATS, UNREADABLE, Pixels, open_image, to_pixels, without_warnings
from .leftovers import is_left_over
from .preparation import find_source
from .source import IntArray
from .splitting import Selection, split

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Pillow's filters by the names that model directories use."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How an image becomes the square that a network sees."""

    size: int
    """Side of the square in pixels."""
    channels: int
    """1 (grey) or 3 (RGB)."""
    crop_fraction: float = 1.0
    """Side of the square over the shorter side of the resized image."""
    interpolation: str = "bicubic"

    def square(self, image: Image.Image) -> Pixels:
        """Returns an open image as (size, size), grey, or (size, size, 3), RGB. Raises one of `UNREADABLE`."""
        resized = round(self.size / self.crop_fraction)
        start = (resized - self.size) // 2
        decoded = to_pixels(image, resized, RESAMPLING[self.interpolation])
        return decoded[start : start + self.size, start : start + self.size]

    def with_channels(self, square: Pixels) -> Pixels:
        """Returns a square as (size, size, channels): grey is repeated, colour becomes its luminance."""
        if square.ndim == 2:
            return np.repeat(square[..., None], self.channels, axis=2)
        return square if self.channels == 3 else np.asarray(Image.fromarray(square).convert("L"))[..., None]


@dataclass(frozen=True, kw_only=True)
class SomeImages:
    """The first images of a part; every prefix of a part is stratified by class."""

    images: Pixels
    """(n, size, size, channels)."""
    labels: IntArray
    class_names: tuple[str, ...]
    is_grey: bool
    """Whether all of the images are greyscale."""


def decode_some(config: DataConfig, geometry: Geometry, counts: Mapping[str, int]) -> dict[str, SomeImages]:
    """Returns at most so many images of each part as `counts` says, e.g. `{"train": 128, "test": 1000}`.

    Parts are those that `prepare` makes of the same configuration. Raises `UserError` if the source does not exist,
    cannot be split, or has images among these that cannot be read.
    """
    source = find_source(config).open()
    selections = split(source, config)
    return {part: _decode(selections[part], geometry, count, source.class_names) for part, count in counts.items()}


def _decode(selection: Selection, geometry: Geometry, count: int, class_names: tuple[str, ...]) -> SomeImages:
    indices = selection.indices[:count]
    images = np.empty((len(indices), geometry.size, geometry.size, geometry.channels), np.uint8)
    is_grey, problems = True, []
    with without_warnings():
        for position, index in enumerate(indices):
            try:
                with selection.samples.load(int(index)) as image:
                    square = geometry.square(image)
            except UNREADABLE as error:
                problems.append(f"{selection.samples.name(int(index))}: {error or type(error).__name__}")
                continue
            is_grey &= square.ndim == 2
            images[position] = geometry.with_channels(square)
    if problems:
        raise UserError(
            f"{len(problems):,} of {len(indices):,} images cannot be read; mend or remove them:", *problems[:5]
        )
    return SomeImages(images=images, labels=selection.samples.labels[indices], class_names=class_names, is_grey=is_grey)


def decode_file(path: Path, geometry: Geometry) -> Pixels:
    """Returns an image file as (size, size, channels). Raises one of `UNREADABLE`."""
    with without_warnings(), open_image(path) as image:
        return geometry.with_channels(geometry.square(image))


def reason_of(error: Exception, path: Path) -> str:
    """Returns why an image file cannot be read, given the exception among `UNREADABLE`."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(dict.fromkeys(FORMATS.values()))}"
    return getattr(error, "strerror", None) or str(error).replace(f"'{path}'", "it") or type(error).__name__


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Returns files as they are, and for folders the images in and below them, sorted by name.

    Hidden files, and what tools leave in image folders, are passed over. Raises `UserError` for a path that does not
    exist, and for a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = [
            image for image in sorted(path.rglob("*")) if _is_visible_image(image.relative_to(path)) and image.is_file()
        ]
        if not inside:
            raise UserError(f"{path}: must hold images ({' '.join(FORMATS)}), got none")
        found += inside
    return found


def _is_visible_image(path: Path) -> bool:
    return path.suffix.lower() in FORMATS and not any(is_left_over(part) for part in path.parts)
