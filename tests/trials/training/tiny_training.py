"""A whole training for tests, whose steps take milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import StageConfig, StemConfig
from sret_nas.nn.model_directory import Preprocessing
from trials.data import DataConfig
from trials.data.whole_images import WholeImages
from trials.distributed.processes import process_group
from trials.training import full
from trials.training.full_recipe import Recipe

DATA = DataConfig(image_size=16, max_train=48, max_val=20, max_test=20)

ARCH = ArchConfig(
    stages=(
        StageConfig(width=8, heads=2, blocks=1, recursions=3, groups=(2, 2, 1), mlp_ratio=1.0),
        StageConfig(width=16, heads=2, blocks=1, recursions=2, groups=(1, 1), mlp_ratio=1.0),
    ),
    stem=StemConfig(width=4, strides=(2, 2, 1)),
    image_size=16,
    channels=1,
    classes=10,
    drop_path=0.1,
)  # fmt: skip

BUSY = {
    "auto_augment": "rand-m9-mstd0.5-inc1", "random_erasing": 0.5, "repeated_augmentation": 2, "mixup": 0.8,
    "cutmix": 1.0, "ema_decay": 0.9, "color_jitter": 0.3,
}  # fmt: skip
"""Changes to the small recipe that turn everything random on."""


def recipe(**changes: Any) -> Recipe:
    """Returns the small recipe, shortened to 2 epochs of 3 steps."""
    return Recipe.load("small", {"epochs": 2, "batch_size": 16, "warmup_epochs": 0.5, **changes})


def spec(
    changes: dict[str, Any], schedule: Any = "full", arch: ArchConfig = ARCH, seed: int = 0, workers: int = 0
) -> full.FullSpec:
    preprocessing = Preprocessing(image_size=arch.image_size, mean=(0.3,) * arch.channels, std=(0.4,) * arch.channels)
    return full.FullSpec(
        arch=arch, recipe=recipe(**changes), schedule=schedule, preprocessing=preprocessing, seed=seed,
        start={"from": "scratch"}, provenance={}, workers=workers,
    )  # fmt: skip


def run(directory: Path, how: full.FullSpec, images: WholeImages, console: Console | None = None) -> dict[str, Any]:
    """Trains in this process, or in those of torchrun, and returns the metrics."""
    with process_group("cpu") as processes:
        training = full.FullTraining(directory, how, images, processes, None)
        return training.run(console or Console(quiet=True))


def weights(directory: Path) -> dict[str, Tensor]:
    """Returns the weights in a run's checkpoint, and their moving averages."""
    content = torch.load(directory / "checkpoint.pt", weights_only=True)
    averaged = content["averaged"] or {}
    return {**content["network"], **{f"averaged {name}": value for name, value in averaged.items()}}


def train_and_print_steps(directory: Path, how: full.FullSpec) -> None:
    """Trains with a checkpoint after every step, and prints the number of steps before each checkpoint.

    For a process of its own, whose trainings are all like this from then on.
    """
    full.CHECKPOINT_SECONDS = -1.0
    train_step = full.FullTraining.train_step

    def told_step(self: full.FullTraining, stream: Iterator[tuple[Tensor, Tensor]]) -> float | None:
        loss = train_step(self, stream)
        print(self.state.counts.steps, flush=True)
        return loss

    full.FullTraining.train_step = told_step  # type: ignore[method-assign]
    run(directory, how, WholeImages.find(DATA))
