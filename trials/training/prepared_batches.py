"""The batches of a training on prepared images: classes, or stored soft labels in their place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from ..data import PreparedPart, num_training_batches, training_batches
from ..data.batching import AugmentedEpoch
from .prepared_labels import PreparedLabels


def endless_batches(
    part: PreparedPart, labels: PreparedLabels | None, *, batch_size: int, seed: int, first: int,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """Yields the batches of a training from step `first` on, epoch after epoch, without end.

    A batch is (B, C, H, W) images and (B,) classes; or (B, classes) probabilities, if there are soft labels. Then the
    views of an epoch are those that the teacher saw, and after its last epoch come those of its first again. The order
    of the images is new in every epoch, and is the training's own.

    Args:
        part: the training images.
        labels: of these images; None for their classes.
        batch_size: images of a whole batch.
        seed: of the training.
        first: step to begin with.
        shard: (k, n) for the k-th of n processes, as in `training_batches`.

    Raises `UserError` if the teacher saw other images.
    """
    epoch, first = divmod(first, num_training_batches(part, batch_size=batch_size))
    for current in itertools.count(epoch):
        if labels is None:
            yield from training_batches(
                part, batch_size=batch_size, seed=seed, epoch=current, first=first, shard=shard
            )  # fmt: skip
        else:
            batches = AugmentedEpoch(part, seed=seed, epoch=current).batches(
                batch_size=batch_size, first=first, shard=shard
            )
            yield from _labelled(part, labels, current % labels.epochs, batches)
        first = 0  # only the first of the remaining epochs begins in its middle


def _labelled(
    part: PreparedPart, labels: PreparedLabels, epoch: int, batches: Iterator[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    seen = AugmentedEpoch(part, seed=labels.seed, epoch=epoch)
    for chosen in batches:
        images = seen.images(chosen)
        yield images, torch.from_numpy(labels.targets(epoch, chosen.numpy(), images.numpy()))
