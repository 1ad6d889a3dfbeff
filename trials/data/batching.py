"""Batches of prepared images as tensors, the whole batch augmented at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sret_nas.errors import UserError

from ..seeds import seed_from
from .prepared import Split

SHIFT = 8
"""Training images are shifted by up to 1/8 of their side each way: 4 pixels of 32, as is usual for CIFAR."""


def batches(part: Split, *, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Returns every image once, for evaluation: ((B, C, H, W) float32, normalised; (B,) int64) on the CPU.

    Images come in the part's own order; the last batch may be smaller. Raises `UserError` if `batch_size` is not
    positive.
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    return _plain(part, batch_size)


def num_training_batches(part: Split, *, batch_size: int) -> int:
    """Returns how many batches `training_batches` gives of an epoch. Raises `UserError` as it does."""
    if batch_size < 2 or len(part) < 2:
        raise UserError(
            "a training batch must have at least 2 images, which BatchNorm needs, "
            f"got batch_size={batch_size} for {len(part)} images"
        )
    return max(1, len(part) // batch_size)


def training_batches(
    part: Split, *, batch_size: int, seed: int = 0, epoch: int = 0, first: int = 0, share: tuple[int, int] = (0, 1)
) -> Iterator[tuple[Tensor, Tensor]]:
    """Returns the images of one epoch of training, as tensors like those of `batches`.

    They are shuffled, each shifted at random (its border repeated into the gap) and, if `part.flip`, mirrored at
    random. All batches are full: what is left over, other images in every epoch, is dropped, unless the part is smaller
    than one batch and makes up the only one. The same `seed` and `epoch` give the same batches bit for bit, in any
    process, whatever else draws random numbers.

    Args:
        first: So many batches are left out at the beginning, at no cost.
        share: (k, n) gives the k-th, from 0, of n parts of every batch, whose sizes differ by at most one: what one of
            n processes trains on.

    Raises `UserError` for batches of less than 2 images.
    """
    numbers = range(first, num_training_batches(part, batch_size=batch_size))
    return _augmented(part, batch_size, numbers, share, seed_from(f"{seed}/{epoch}"))


def _plain(part: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(part), batch_size):
        indices = np.arange(start, min(len(part), start + batch_size))  # which copy: images may be a read-only file
        yield _normalised(torch.from_numpy(part.images[indices]), part), torch.from_numpy(part.labels[indices])


def _augmented(
    part: Split, batch_size: int, numbers: range, share: tuple[int, int], seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    reach = part.images.shape[1] // SHIFT
    order = torch.randperm(len(part), generator=generator)
    shifts = torch.randint(-reach, reach + 1, (len(part), 2), generator=generator)
    mirrored = (torch.rand(len(part), generator=generator) < 0.5) & part.flip
    for number in numbers:
        chosen = order[number * batch_size : (number + 1) * batch_size].tensor_split(share[1])[share[0]]
        indices = chosen.numpy()
        images = torch.from_numpy(part.images[indices])
        images = _shifted(images, part, shifts[chosen], mirrored[chosen])
        yield images, torch.from_numpy(part.labels[indices])


def _shifted(images: Tensor, part: Split, shifts: Tensor, mirrored: Tensor) -> Tensor:
    """(B, H, W, C) bytes, shifted by `shifts` (B, 2: down, right), mirrored where told, as normalised (B, C, H, W).

    Rows are moved as bytes and columns as floats: half as long as moving single pixels, measured on one core.
    """
    number, height, width, channels = images.shape
    rows = (torch.arange(height) - shifts[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width) - shifts[:, 1:]).clamp(0, width - 1)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    rows = rows + torch.arange(number)[:, None] * height
    images = images.view(number * height, width * channels).index_select(0, rows.view(-1))
    normalised = _normalised(images.view(number, height, width, channels), part)
    return normalised.gather(3, columns[:, None, None, :].expand(normalised.shape))


def _normalised(images: Tensor, part: Split) -> Tensor:
    """(B, H, W, C) bytes as (B, C, H, W) float32 with the training part's mean 0 and deviation 1."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (part.mean, part.std))
    pixels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.mul_(1 / (255 * std)).sub_(mean / std)
