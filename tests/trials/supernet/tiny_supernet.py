"""A supernet for tests, whose steps take milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from sret_nas.arch.budget import Budget
from sret_nas.space.search_space import SearchSpace
from trials.data import DataConfig, PreparedData, prepare
from trials.supernet import training
from trials.supernet.config import SupernetConfig
from trials.supernet.spec import TrainingSpec
from trials.training.prepared_labels import SoftLabelSource
from trials.training.recipe import ProxyConfig, TrainingConfig

SPACE = SearchSpace.from_dict(
    {
        "name": "tiny",
        "image_size": 16,
        "classes": 10,
        "stem": {"strides": [2, 1, 1]},
        "stages": [
            {
                "width": [8, 12], "heads": [2], "blocks": [1, 2], "recursions": [1, 2, 3],
                "loop": ["internal", "external"], "groups": [[2, 2]], "nll": ["every", "last", "none"],
                "nll_ratio": [1.0], "mlp_ratio": [1.0, 2.0],
            },
            {
                "width": [16, 24], "heads": [2], "blocks": [1, 2], "recursions": [1, 2],
                "loop": ["internal"], "groups": [[1]], "nll": ["between", "none"], "nll_ratio": [0.5, 1.0],
                "mlp_ratio": [1.0, 2.0],
            },
        ],
    }
)  # fmt: skip

DATA = DataConfig(image_size=16, max_train=150, max_val=60, max_test=10)


def tiny_data(directory: Path) -> PreparedData:
    return prepare(DATA, directory, None)


def config(images: int = 320, learning_rate: float = 2e-3, **options: Any) -> SupernetConfig:
    """Returns settings with the sandwich rule, distillation and full depth, whatever the defaults are."""
    training = TrainingConfig(images=images, batch_size=32, learning_rate=learning_rate)
    plain = {
        "step_rule": "sandwich",
        "random_networks": 2,
        "distil": True,
        "subnet_sampling": "stratified",
        "depth_schedule": "full",
    }
    return SupernetConfig(training=training, **{**plain, **options})


def proxy(image_size: int = 16, width_scale: float = 1.0) -> ProxyConfig:
    return ProxyConfig(image_size=image_size, width_scale=width_scale, training=TrainingConfig(images=2))


def spec(
    how: SupernetConfig, *, seed: int = 0, budget: Budget | None = None, how_small: ProxyConfig | None = None,
    labels: SoftLabelSource | None = None,
) -> TrainingSpec:  # fmt: skip
    return TrainingSpec(
        space=SPACE, budget=budget or Budget(), proxy=how_small or proxy(), config=how, seed=seed, soft_labels=labels
    )  # fmt: skip


def trained(
    directory: Path, data: PreparedData, how: SupernetConfig, *, seed: int = 0, budget: Budget | None = None,
    how_small: ProxyConfig | None = None, console: Console | None = None, labels: SoftLabelSource | None = None,
) -> Path:  # fmt: skip
    return training.train_supernet(
        directory, spec(how, seed=seed, budget=budget, how_small=how_small, labels=labels), data, device="cpu",
        threads=1, console=console or Console(quiet=True),
    )  # fmt: skip


def train_and_print_steps(
    directory: Path, data: PreparedData, how: SupernetConfig, labels: SoftLabelSource | None = None
) -> None:
    """Trains with a checkpoint after every step, and prints the number of steps before each checkpoint.

    For a process of its own, whose trainings are all like this from then on.
    """
    training.CHECKPOINT_SECONDS = 0.0
    train_step = training.SupernetTraining.train_step

    def told_step(self: training.SupernetTraining, images: Tensor, labels: Tensor) -> float | None:
        loss = train_step(self, images, labels)
        print(self.state.counts.steps, flush=True)
        return loss

    training.SupernetTraining.train_step = told_step  # type: ignore[method-assign]
    trained(directory, data, how, labels=labels)
