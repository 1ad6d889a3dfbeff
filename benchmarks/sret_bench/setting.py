"""What the tables of SReT-Bench hold: space, images, recipe, networks, lengths and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sret_nas.space.search_space import SearchSpace
from trials.data import DataConfig, PreparedData, prepare
from trials.supernet.config import SupernetConfig
from trials.training.recipe import Precision, ProxyConfig, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The sizes of everything that is trained and scored. The defaults are those of the published tables."""

    space: SearchSpace
    source: str
    """The images: CIFAR-10 as a folder of class folders in train and val."""
    image_size: int = 24
    """9, 4 and 1 tokens in the three stages of `sret_tiny`: in the last one, attention is the identity."""
    val_fraction: float = 0.1
    max_images: int | None = None
    """At most so many images of every part; None is all of them."""
    batch_size: int = 128
    learning_rate: float = 3e-3
    precision: Precision = "bf16"
    supernet_images: int = 1_000_000
    supernet_seeds: tuple[int, ...] = (0, 1)
    ended: Mapping[int, int] = field(default_factory=dict)
    """Supernets that score no more, with the number of networks they have scored: their weights are lost."""
    num_stratified: int = 2_000
    """Networks spread evenly over the logarithm of FLOPs, from the cheapest to the most expensive of the space."""
    num_in_window: int = 500
    """Networks drawn uniformly from `window`."""
    window: tuple[int, int] = (900_000_000, 1_000_000_000)
    """FLOPs between which structure is compared at almost equal cost."""
    num_costs: int = 8
    """FLOPs, evenly spaced in their logarithm, at which networks are trained from scratch."""
    cost_range: tuple[int, int] = (80_000_000, 1_400_000_000)
    lengths: tuple[int, ...] = (8_000, 16_000, 32_000, 64_000, 125_000, 250_000, 500_000)
    """Images after which a training from scratch is scored; the last is its length."""
    short_lengths: tuple[int, ...] = (16_000, 64_000)
    """Lengths of trainings whose own schedule ends there, as that of a proxy does."""
    num_repeated: int = 6
    """Networks that are trained with a second seed."""
    precision_images: int = 100_000
    """Length of the supernets that tell what bf16 changes."""
    precision_networks: int = 100
    """Networks, the first ones of the table, that these score."""
    score_batch_size: int = 1_000
    checkpoint_seconds: float = 120.0
    """Between two checkpoints of a training from scratch: the most work that a killed process loses."""

    def training(self, images: int) -> TrainingConfig:
        """Returns the recipe of every training, of any length."""
        return TrainingConfig(images=images, batch_size=self.batch_size, learning_rate=self.learning_rate)

    def proxy(self, images: int) -> ProxyConfig:
        """Returns the proxy of a network: its own shape, at the input size of the tables."""
        return ProxyConfig(image_size=self.image_size, training=self.training(images))

    def supernet_config(self, images: int, precision: Precision) -> SupernetConfig:
        """Returns how a supernet is trained: one random network a step, all widths equally likely."""
        return SupernetConfig(training=self.training(images), precision=precision)

    def prepared(self, directory: Path) -> PreparedData:
        """Returns the images: validation is a tenth of CIFAR-10's training part, and its test part is the test part."""
        most = self.max_images
        config = DataConfig(
            source=self.source, image_size=self.image_size, val_fraction=self.val_fraction,
            max_train=most, max_val=most, max_test=most,
        )  # fmt: skip
        return prepare(config, directory.absolute())


def published(source: str) -> Setting:
    """Returns the setting of the published tables."""
    space = SearchSpace.load("sret_tiny")
    one_schedule = SearchSpace.from_dict({**space.to_dict(), "depth_schedules": ["full"]}, "sret_tiny")
    return Setting(space=one_schedule, source=source, supernet_seeds=(0, 1, 2), ended={0: 1_416})
