"""Batches of prepared images as tensors, with augmentation of whole batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sret_nas.errors import UserError
from sret_nas.plurals import counted

from ..seeds import seed_from
from .prepared import PreparedPart

SHIFT = 8
"""Training images are shifted by up to 1/SHIFT of their side each way: 4 pixels of 32, as is usual for CIFAR."""


def batches(part: PreparedPart, *, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Returns all images once, in order, for evaluation; the last batch may be smaller.

    A batch is ((B, C, H, W) float32, normalised; (B,) int64) on the CPU. Raises `UserError` if `batch_size` is not
    positive.
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    return _plain(part, batch_size)


def num_training_batches(part: PreparedPart, *, batch_size: int) -> int:
    """Returns the number of batches per epoch of `training_batches`. Raises `UserError` as it does."""
    if batch_size < 2 or len(part) < 2:
        raise UserError(
            "a training batch must have at least 2 images, which BatchNorm needs, "
            f"got batch_size={batch_size} for {counted(len(part), 'image')}"
        )
    return max(1, len(part) // batch_size)


def training_batches(
    part: PreparedPart,
    *,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    first: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, Tensor]]:
    """Returns the batches of one training epoch, as tensors like those of `batches`.

    Images are shuffled, shifted at random (the border is repeated into the gap) and, if `part.flip`, mirrored at
    random. All batches are full: the remainder, other images in every epoch, is dropped, except that a part smaller
    than one batch is one batch. Equal `seed` and `epoch` give bit-identical batches, in any process.

    Args:
        first: The number of batches to skip at the beginning, at no cost.
        shard: (k, n) returns the k-th (from 0) of n shards of every batch, whose sizes differ by at most one, for one
            of n processes.

    Raises `UserError` for batches of less than 2 images.
    """
    seen = AugmentedEpoch(part, seed=seed, epoch=epoch)
    return (
        (seen.images(chosen), torch.from_numpy(part.labels[chosen.numpy()]))
        for chosen in seen.batches(batch_size=batch_size, first=first, shard=shard)
    )


class AugmentedEpoch:
    """How one training epoch sees the images of a part, and in which order: a function of seed and epoch alone."""

    def __init__(self, part: PreparedPart, *, seed: int, epoch: int) -> None:
        generator = torch.Generator().manual_seed(seed_from(f"{seed}/{epoch}"))
        reach = part.images.shape[1] // SHIFT
        self._part = part
        self._order = torch.randperm(len(part), generator=generator)
        self._shifts = torch.randint(-reach, reach + 1, (len(part), 2), generator=generator)
        self._mirrored = (torch.rand(len(part), generator=generator) < 0.5) & part.flip

    def batches(self, *, batch_size: int, first: int = 0, shard: tuple[int, int] = (0, 1)) -> Iterator[Tensor]:
        """Returns the positions (B,) of the images of each batch. Arguments and errors are `training_batches`'s."""
        numbers = range(first, num_training_batches(self._part, batch_size=batch_size))
        whole = (self._order[number * batch_size : (number + 1) * batch_size] for number in numbers)
        return (batch.tensor_split(shard[1])[shard[0]] for batch in whole)

    def images(self, chosen: Tensor) -> Tensor:
        """Returns the images at some positions (B,) as this epoch sees them: (B, C, H, W) float32, normalised."""
        images = torch.from_numpy(self._part.images[chosen.numpy()])
        return _shifted(images, self._part, self._shifts[chosen], self._mirrored[chosen])


def _plain(part: PreparedPart, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(part), batch_size):
        indices = np.arange(start, min(len(part), start + batch_size))  # they copy, as images may be a read-only file
        yield _normalised(torch.from_numpy(part.images[indices]), part), torch.from_numpy(part.labels[indices])


def _shifted(images: Tensor, part: PreparedPart, shifts: Tensor, mirrored: Tensor) -> Tensor:
    """Returns (B, H, W, C) bytes, shifted by `shifts` (B, 2: down, right) and mirrored, as normalised (B, C, H, W).

    Rows are moved as bytes and columns as floats, which takes half as long as moving single pixels on one core.
    """
    batch_size, height, width, channels = images.shape
    rows = (torch.arange(height) - shifts[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width) - shifts[:, 1:]).clamp(0, width - 1)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    rows = rows + torch.arange(batch_size)[:, None] * height
    images = images.view(batch_size * height, width * channels).index_select(0, rows.view(-1))
    normalised = _normalised(images.view(batch_size, height, width, channels), part)
    return normalised.gather(3, columns[:, None, None, :].expand(normalised.shape))


def _normalised(images: Tensor, part: PreparedPart) -> Tensor:
    """Returns (B, H, W, C) bytes as (B, C, H, W) float32, standardised by the training part's mean and deviation."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (part.mean, part.std))
    pixels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.mul_(1 / (255 * std)).sub_(mean / std)
