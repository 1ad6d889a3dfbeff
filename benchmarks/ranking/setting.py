"""What is ranked: the space, its networks in the table, the recipe that each is trained with, and the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.space.search_space import SearchSpace
from trials.data import DataConfig, PreparedData, prepare
from trials.training.recipe import ProxyConfig, TrainingConfig

SPACE = SearchSpace.load(Path(__file__).resolve().parent / "space.yaml")
BUDGET = Budget()
NUM_NETWORKS = 32
REPEATED = range(1, NUM_NETWORKS, 4)
"""Networks, by their rank in FLOPs, that are trained with a second seed: evenly over cost."""
SEEDS = 2
"""Trainings of each of those."""

PROXY = ProxyConfig(
    image_size=SPACE.image_size,
    training=TrainingConfig(images=120_000, batch_size=128, learning_rate=5e-3),
)
"""The training of each network by itself; the networks are their own proxies."""


def networks() -> list[ArchConfig]:
    """Returns the networks of the table in order of FLOPs: two from each of 16 strata of log-cost."""
    drawn = StratifiedSampler(SPACE, BUDGET).sample_many(np.random.default_rng(0), NUM_NETWORKS)
    return sorted(drawn, key=lambda arch: cost_of(arch).flops)


def within(budget: Budget) -> list[ArchConfig]:
    """Returns those of them that meet a budget."""
    costs = {arch: cost_of(arch) for arch in networks()}
    return [arch for arch, cost in costs.items() if budget.allows(cost.flops, cost.params)]


def prepared(source: str, directory: Path) -> PreparedData:
    """Returns the images, with a validation part so large that its own noise counts little beside that of training."""
    config = DataConfig(source=source, image_size=SPACE.image_size, val_fraction=0.2)
    return prepare(config, directory.absolute())
