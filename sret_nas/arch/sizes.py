"""Sizes that follow from others: of grids of tokens, of hidden layers, and of the paper's stem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def hidden_width(width: int, ratio: float) -> int:
    """Returns the hidden width of an MLP or NLL: `ratio * width`, rounded down.

    The small addend corrects products that floating point puts just below a whole number: 0.29 * 100 is 28.999...
    """
    return int(width * ratio + 1e-6)


def halved(size: int) -> int:
    """Returns the side length after a 3x3 convolution with stride 2 and padding 1."""
    return strided(size, 2)


def strided(size: int, stride: int) -> int:
    """Returns the side length after a layer with a stride: the size over the stride, rounded up."""
    return -(-size // stride)


def token_sides(image_size: int, strides: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Returns the side of the token grid in each of `num_stages` stages.

    The stem has the given strides; every pooling between stages halves the side.
    """
    side = image_size
    for stride in strides:
        side = strided(side, stride)
    sides = [side]
    for _ in range(num_stages - 1):
        sides.append(halved(sides[-1]))
    return tuple(sides)


def paper_stem_width(width: Any) -> Any:
    """Returns the width of the paper's stem: half the first stage's `width` (an int or an int array), at least 1."""
    return width // 2 + (width == 1)
