"""Batches of whole images for training and evaluation, read and transformed in processes of their own.

`AugmentedImages[View(epoch, image)]` gives an image as the training sees it in that epoch, and its class.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..data.whole_images import UnreadableImageError, WholePart, mode_of
from ..seeds import seed_from
from .augmentation import ImageTransform, seed_generators

SECONDS_TO_END = 10
"""From SIGTERM to the end of a process that reads images, within which a training finishes its step."""


class View(NamedTuple):
    """An image as it is seen once in a training."""

    epoch: int
    image: int
    """Position in the training part."""
    copy: int = 0
    """Number of the view, where an epoch sees an image several times (repeated augmentation)."""


class AugmentedImages(Dataset[tuple[Tensor, int] | str]):
    """Training images. An item is a pure function of the seed and its `View`.

    An image that cannot be read is a message instead, because an exception would lose its words on the way from one
    process to another.
    """

    def __init__(self, part: WholePart, transform: ImageTransform, channels: int, seed: int) -> None:
        self._part, self._transform, self._seed = part, transform, seed
        self._mode = mode_of(1 if channels == 1 else 3)

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, view: View) -> tuple[Tensor, int] | str:
        try:
            image = self._part.load(view.image, self._mode)
        except UnreadableImageError as error:
            return str(error)
        seed_generators(f"view {self._seed}/{view.epoch}/{view.image}/{view.copy}")
        return self._transform(image), int(self._part.labels[view.image])


class EvaluatedImages(Dataset[tuple[Tensor, int] | str]):
    """Images of any part, by position, as they are evaluated."""

    def __init__(self, part: WholePart, transform: ImageTransform, channels: int) -> None:
        self._part, self._transform = part, transform
        self._mode = mode_of(1 if channels == 1 else 3)

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | str:
        try:
            image = self._part.load(index, self._mode)
        except UnreadableImageError as error:
            return str(error)
        return self._transform(image), int(self._part.labels[index])


@dataclass(frozen=True)
class BatchPlan:
    """Which views each step trains on: a function of the seed alone.

    An epoch has as many views as there are images. With repeated augmentation it has several of each image, and so only
    some of the images (Hoffer et al., 2020). The remainder that fills no batch is dropped, other images in every epoch.
    """

    num_images: int
    batch_size: int
    """Images of a step, at most `num_images`."""
    repeats: int
    seed: int
    num_microbatches: int
    """Equal pieces of each batch that are computed one after the other, or in several processes."""
    distinct_epochs: int | None = None
    """Epochs after which the views repeat, because labels are stored for so many; None: they never do."""
    _orders: dict[int, list[int]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The order of the images in the epoch that was asked for last."""

    @property
    def steps_per_epoch(self) -> int:
        return self.num_images // self.batch_size

    def views(self, step: int) -> list[View]:
        """Returns the views of a step."""
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self.batch_size
        order = self._order(epoch)
        numbers = range(start, start + self.batch_size)
        if self.distinct_epochs is not None:
            epoch %= self.distinct_epochs
        return [View(epoch, order[number // self.repeats], number % self.repeats) for number in numbers]

    def microbatch(self, step: int, number: int) -> list[View]:
        """Returns the views of one microbatch. The views of an image are in different microbatches, if possible."""
        return self.views(step)[number :: self.num_microbatches]

    def _order(self, epoch: int) -> list[int]:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(seed_from(f"order {self.seed}/{epoch}"))
            self._orders.clear()
            self._orders[epoch] = torch.randperm(self.num_images, generator=generator).tolist()
        return self._orders[epoch]


class _Microbatches(Sampler[list[View]]):
    """The microbatches of a plan that one process computes, from a step on."""

    def __init__(self, plan: BatchPlan, numbers: range, steps: range) -> None:
        self._plan, self._numbers, self._steps = plan, numbers, steps

    def __iter__(self) -> Iterator[list[View]]:
        for step in self._steps:
            views = self._plan.views(step)
            for number in self._numbers:
                yield views[number :: self._plan.num_microbatches]


class _InOrder(Sampler[list[View]]):
    """Batches of the views of every image in every epoch, in order, from a row on."""

    def __init__(self, num_images: int, batch_size: int, rows: range) -> None:
        self._num_images, self._batch_size, self._rows = num_images, batch_size, rows

    def __iter__(self) -> Iterator[list[View]]:
        for start in range(self._rows.start, self._rows.stop, self._batch_size):
            rows = range(start, min(start + self._batch_size, self._rows.stop))
            yield [View(*divmod(row, self._num_images)) for row in rows]


def all_views(
    images: AugmentedImages, batch_size: int, rows: range, *, workers: int, pin: bool = False
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yields the views of all images, epoch by epoch, like `training_microbatches`; the last batch may be smaller.

    Args:
        images: the training images.
        batch_size: views of a batch.
        rows: numbers of the views, counted over all epochs.
        workers: processes that read images; 0 reads them here.
        pin: whether tensors are in memory from which a GPU copies faster.
    """
    yield from _readable(_loader(images, _InOrder(len(images), batch_size, rows), workers, pin))


def training_microbatches(
    images: Dataset[Any], plan: BatchPlan, numbers: range, steps: range, *, workers: int, pin: bool = False
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yields the microbatches of each step that one process computes: ((B, C, H, W), (B,)), on the CPU.

    Args:
        images: the training images, by `View`. With probabilities in place of a class, the second is (B, classes).
        plan: of the whole batches.
        numbers: of the microbatches in their batch.
        steps: numbers of the steps.
        workers: processes that read images; 0 reads them here.
        pin: whether tensors are in memory from which a GPU copies faster.

    Close it to end the processes. Raises `UnreadableImageError`.
    """
    yield from _readable(_loader(images, _Microbatches(plan, numbers, steps), workers, pin))


def evaluation_batches(
    images: EvaluatedImages, positions: Sequence[int], batch_size: int, *, workers: int, pin: bool = False
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Yields images at some positions, in order, like `training_microbatches`; the last batch may be smaller."""
    batches = [list(positions[start : start + batch_size]) for start in range(0, len(positions), batch_size)]
    yield from _readable(_loader(images, batches, min(workers, len(batches)), pin))


def _loader(images: Dataset[Any], batches: Any, workers: int, pin: bool) -> DataLoader[Any]:
    return DataLoader(
        images, batch_sampler=batches, num_workers=workers, pin_memory=pin, collate_fn=_collate,
        worker_init_fn=_leave_signals_to_the_training if workers else None,
        generator=torch.Generator(),  # else it draws a seed from torch's global generator
        multiprocessing_context="fork" if workers else None,  # sources of images cannot be pickled
    )  # fmt: skip


def _collate(items: list[tuple[Tensor, Any] | str]) -> tuple[Tensor, Tensor] | str:
    readable = []
    for item in items:
        if isinstance(item, str):
            return item
        readable.append(item)
    return torch.stack([image for image, _ in readable]), torch.from_numpy(np.array([label for _, label in readable]))


def _readable(batches: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in batches:
        if isinstance(batch, str):
            raise UnreadableImageError(batch)
        yield batch[0], batch[1]


def _leave_signals_to_the_training(worker: int) -> None:
    """Lets the training alone decide when to stop: a terminal or a scheduler signals all its processes at once.

    SIGTERM is also how a training that fails ends its workers, so it still does, but only after some seconds.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(SECONDS_TO_END))
