"""What is trained to compare initialisations: networks, data sets, lengths, and the recipe of a trial."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import StageConfig, StemConfig
from sret_nas.arch.presets import preset
from trials.data import DataConfig, PreparedData, prepare
from trials.training.recipe import TrainingConfig

IMAGE_SIZE = 24
DataName = Literal["CIFAR-10", "Fashion-MNIST"]
NetworkName = Literal["SReT-T's shape", "hand-made"]

SHORT, LONG = 25_600, 89_600
"""Training images, with repetition."""
VALIDATION_IMAGES, TEST_IMAGES = 3_000, 5_000

STRIDES = (2, 2, 1)
"""Of the stem: 36, 9 and 4 tokens in the three stages at 24 px, about those of the default proxies of 40 px."""


def recipe(images: int) -> TrainingConfig:
    """Returns the recipe of a trial, with its defaults."""
    return TrainingConfig(images=images)


def network(name: NetworkName, data: PreparedData) -> ArchConfig:
    """Returns a network of the comparison for some images."""
    stages = _scaled_sret_t() if name == "SReT-T's shape" else _hand_made()
    return ArchConfig(
        stages=stages,
        stem=StemConfig(width=stages[0].width // 2, strides=STRIDES),
        image_size=IMAGE_SIZE,
        channels=data.channels,
        classes=data.num_classes,
    )


def _scaled_sret_t() -> tuple[StageConfig, ...]:
    """Returns SReT-T's stages at 3/8 of their widths: 24, 48 and 96 channels, 2, 5 and 3 blocks of 2 recursions."""
    return tuple(stage.model_copy(update={"width": stage.width * 3 // 8}) for stage in preset("sret_t").stages)


def _hand_made() -> tuple[StageConfig, ...]:
    """Returns stages such as a search in `sret_tiny` tries: its smallest widths and few blocks."""
    shapes = ((32, 2, 1, (4, 1)), (64, 4, 2, (3, 1)), (128, 8, 1, (2, 1)))
    return tuple(
        StageConfig(width=width, heads=heads, blocks=blocks, recursions=2, groups=groups, nll="between", mlp_ratio=3.0)
        for width, heads, blocks, groups in shapes
    )


def prepared(name: DataName, source: str, directory: Path) -> PreparedData:
    """Prepares a data set: CIFAR-10 as an image folder, or Fashion-MNIST by torchvision's name from its root."""
    source, root = (source, None) if name == "CIFAR-10" else ("fashionmnist", source)
    config = DataConfig(
        source=source, root=root, image_size=IMAGE_SIZE, val_fraction=0.1, max_val=VALIDATION_IMAGES,
        max_test=TEST_IMAGES,
    )  # fmt: skip
    return prepare(config, directory.absolute())


@dataclass(frozen=True)
class Piece:
    """One training: a line of the results."""

    data: DataName
    network: NetworkName
    images: int
    scheme: str
    seed: int
