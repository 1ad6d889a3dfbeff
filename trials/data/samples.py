"""Small PNGs of training images, to look at what networks see."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from .prepared import PreparedData

MAX_SIDE = 64
"""Largest side of a sample in pixels; larger images are reduced."""


def samples_of(data: PreparedData, per_class: int, num_classes: int) -> list[tuple[str, list[bytes]]]:
    """Returns PNGs of the first training images of the first classes, with the names of the classes."""
    part = data.train
    shown = []
    for label, name in enumerate(data.class_names[:num_classes]):
        positions = np.flatnonzero(part.labels == label)[:per_class]
        shown.append((name, [_png(part.images[position]) for position in positions]))
    return shown


def _png(pixels: np.ndarray) -> bytes:
    """Returns an image (h, w, c) as PNG."""
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return buffer.getvalue()
