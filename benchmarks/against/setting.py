"""What is compared: budgets, images, recipe and seeds, the same for every network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sret_nas.space.search_space import SearchSpace
from trials.data import DataConfig, PreparedData, prepare
from trials.training.recipe import Precision, TrainingConfig

CLASSES, CHANNELS = 10, 3

KINDS = ("found", "published shape", "random", "ViT", "MobileNetV3", "ResNet")
"""Networks that `search` recommends; SReT-T's shape with fewer channels; feasible ones drawn uniformly; and timm's."""

PRECISION: dict[str, Precision] = {kind: "fp32" if kind == "MobileNetV3" else "bf16" for kind in KINDS}
"""The faster precision of each kind on the machine that the plan was made on; weights and updates are fp32."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The sizes of everything. The defaults are those of the published table."""

    space: SearchSpace
    """For targets of this input size and as many classes as the images have."""
    source: str
    image_size: int = 32
    kinds: tuple[str, ...] = KINDS
    budgets: tuple[int, ...] = (2_000_000, 3_500_000, 6_000_000)
    """Multiply-adds for one image of this size."""
    seeds: tuple[int, ...] = (0, 1, 2)
    images: int = 1_500_000
    batch_size: int = 256
    learning_rate: float = 3e-3
    search_arguments: tuple[str, ...] = ()
    """Options of the searches beside budget, target and images; none is what a user types first."""
    checkpoint_seconds: float = 120.0

    @property
    def training(self) -> TrainingConfig:
        """The recipe of every training."""
        return TrainingConfig(images=self.images, batch_size=self.batch_size, learning_rate=self.learning_rate)

    def prepared(self, directory: Path) -> PreparedData:
        """Returns the images. All of CIFAR-10's training part but a sliver trains; errors are of its test part."""
        config = DataConfig(source=self.source, image_size=self.image_size, val_fraction=0.02)
        return prepare(config, directory.absolute())


def published(source: str) -> Setting:
    """Returns the setting of the published table."""
    return Setting(space=small_targets(SearchSpace.load("sret_tiny"), 32), source=source)


def small_targets(space: SearchSpace, image_size: int) -> SearchSpace:
    """Returns a space whose targets have an input size and the images' classes, as `search --target-*` makes it."""
    changes = {"image_size": image_size, "classes": CLASSES, "channels": CHANNELS}
    return SearchSpace.from_dict({**space.to_dict(), **changes}, space.name)
