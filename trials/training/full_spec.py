"""A whole training as plain data, and the processes that run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from pydantic import JsonValue
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.nn.model_directory import Preprocessing
from sret_nas.plurals import counted
from sret_nas.space.search_space import DepthSchedule

from ..data.whole_images import WholeImages
from .full_recipe import Recipe
from .image_batches import BatchPlan


class Group(Protocol):
    """The processes of a data-parallel training, as `trials.distributed.processes` has them."""

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def is_first(self) -> bool: ...

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors by their means over all processes."""

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors by those of the first process."""

    def any(self, flag: bool) -> bool:
        """Returns whether the flag is set in any process."""

    def wait(self) -> None:
        """Waits until all processes have called this."""


@dataclass(frozen=True, kw_only=True)
class FullSpec:
    """A whole training as plain data, the same in all its processes."""

    arch: ArchConfig
    """The network, with the classes and channels of the data, its image size and drop path."""
    recipe: Recipe
    schedule: DepthSchedule
    preprocessing: Preprocessing
    seed: int
    start: dict[str, JsonValue]
    """What the first weights come from: identifies the training."""
    provenance: dict[str, JsonValue]
    """Where the network comes from, for the model directory."""
    workers: int
    """Processes that read images, for each process that trains."""

    def identity(self, images: WholeImages) -> dict[str, JsonValue]:
        """Returns the data that identify a training: with the same identity, the weights are the same."""
        return {
            "architecture": self.arch.to_dict(),
            "recipe": self.recipe.model_dump(mode="json", exclude={"depth_distillation"}),
            # None if it is off, because checkpoints of earlier versions lack it.
            "depth distillation": self.recipe.depth_distillation or None,
            "depth schedule": self.schedule,
            "preprocessing": self.preprocessing.model_dump(mode="json"),
            "seed": self.seed,
            "start": self.start,
            "classes": list(images.class_names),
            "images (digest)": images.digest,
        }


def plan_of(recipe: Recipe, num_images: int, seed: int, world_size: int) -> BatchPlan:
    """Returns the batches of a training. Raises `UserError` unless they split into microbatches of at least 2 images.

    A batch is at most the whole training part, rounded down so that all microbatches are equal.
    """
    microbatches = world_size * recipe.gradient_accumulation
    unit = microbatches * (2 if recipe.mixes else 1)  # timm mixes pairs
    size = min(recipe.batch_size, num_images // unit * unit)
    if size // microbatches < 2 or size % unit:
        processes = counted(world_size, "process", "processes")
        what = f"{processes} with {counted(recipe.gradient_accumulation, 'part')} each"
        rule = "an even number, because images are mixed in pairs" if recipe.mixes else "a whole number of at least 2"
        raise UserError(
            f"--batch-size must give every one of {what} {rule}, got a batch of {recipe.batch_size} and "
            f"{counted(num_images, 'training image')}"
        )
    return BatchPlan(
        num_images=num_images,
        batch_size=size,
        repeats=recipe.repeated_augmentation,
        seed=seed,
        num_microbatches=microbatches,
    )
