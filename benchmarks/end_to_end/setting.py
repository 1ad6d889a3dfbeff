"""What is searched, for how long, and how what was found is trained: the same for every search.

Searches from scratch train each network shortly, as `search --no-supernet` does; the others train a supernet first.
Time is processor time of one core, so that a busy machine takes nothing from anybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.ranking.setting import SPACE as RANKED
from sret_nas.arch.budget import Budget
from sret_nas.space.search_space import SearchSpace
from trials.data import DataConfig, PreparedData, prepare
from trials.strategies.strategy import StrategyName
from trials.training.recipe import ProxyConfig, TrainingConfig

SPACE = SearchSpace.from_dict({**RANKED.to_dict(), "depth_schedules": ["full"]}, "ranking")
BUDGET = Budget(flops_max=2_000_000)
MIN_FLOPS, NUM_BUDGETS = 500_000, 5
BUDGETS = tuple(round(value) for value in np.geomspace(MIN_FLOPS, BUDGET.flops_max or 0, NUM_BUDGETS).tolist())
"""A search is asked for the best network within each of these FLOPs."""

SECONDS = 240
"""Of one core, for every search; a fifth of it for `FIFTH`."""
SEEDS = 5
"""Of each comparison."""

POPULATION = 12
"""NSGA-II's population, and the start of `additive`: by the tool's rule (a quarter) for as many trials as there are."""

BATCH_SIZE = 128


def training(images: int, batch_size: int = BATCH_SIZE) -> TrainingConfig:
    """Returns the recipe of every training here, of any length."""
    return TrainingConfig(images=images, batch_size=batch_size, learning_rate=5e-3)


PROXY = ProxyConfig(image_size=SPACE.image_size, training=training(16_000, batch_size=64))
"""A trial from scratch: as long as the tool's own are by default. Such trainings rank the networks of the table of
`benchmarks/ranking` inside this budget with a tau of 0.59, of 4,000 images with 0.29 (benchmarks/NOTES.md)."""
STANDALONE = training(40_000, batch_size=64)
"""The training, from scratch, of every network that a search recommends."""
SCORED_IMAGES = 2_000
"""Validation images that inherited weights are scored on; trials from scratch are scored on all."""
VALIDATION_IMAGES = 4_000


@dataclass(frozen=True)
class Entry:
    """A search in the comparison: its strategy, whether it inherits weights, and its share of `SECONDS`."""

    name: str
    strategy: StrategyName
    inherits: bool = False
    share: float = 1.0
    share_of_supernet: float = 1.0
    """Of its seconds, for the search with a supernet. In the rest, networks are trained from scratch, and the first of
    them are the front of that search."""

    @property
    def seconds(self) -> float:
        return self.share * SECONDS


RANDOM = Entry("random, from scratch", "random")
NSGA2 = Entry("NSGA-II, from scratch", "nsga2")
ADDITIVE = Entry("additive, from scratch", "additive")
FULL = Entry("supernet and additive", "additive", inherits=True)
FIFTH = Entry("supernet and additive, a fifth of the time", "additive", inherits=True, share=0.2)
BOTH = Entry("supernet for a fifth, then from scratch", "additive", inherits=True, share_of_supernet=0.2)
ENTRIES = (RANDOM, NSGA2, ADDITIVE, FULL, FIFTH, BOTH)


@dataclass(frozen=True)
class Comparison:
    """Which searches are compared, under which seeds, and how their files in results/ begin."""

    name: str
    entries: tuple[Entry, ...]
    first_seed: int

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + SEEDS)


FIRST = Comparison("end_to_end", (RANDOM, NSGA2, ADDITIVE, FULL, FIFTH), 0)
AGAIN = Comparison("end_to_end_again", (ADDITIVE, FULL, BOTH), SEEDS)
"""Other seeds, on another machine: seconds of the two comparisons do not compare."""


def prepared(source: str, directory: Path) -> PreparedData:
    """Prepares CIFAR-10: validation from its training part; its test part is what recommended
    networks are tested on."""
    config = DataConfig(source=source, image_size=SPACE.image_size, val_fraction=0.2, max_val=VALIDATION_IMAGES)
    return prepare(config, directory.absolute())
