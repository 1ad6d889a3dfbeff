"""Chooses the networks of every step, from the seed and the step alone: a resumed training draws the same ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.errors import BudgetError
from sret_nas.feasible.balanced import BalancedSampler
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.space.search_space import SearchSpace

from ..training.depth_schedule import depths_of_step
from .config import SubnetSampling, SupernetConfig

_DRAWN_AT_ONCE = 256
"""Random networks per call of the sampler: much faster than one by one, and whole rounds over the strata."""

_TRIES = 64
"""Networks per round of `extreme`; the most expensive (or cheapest) one becomes the bound of the next round."""

_SAMPLERS: dict[SubnetSampling, Callable[[SearchSpace, Budget], BalancedSampler | StratifiedSampler | FeasibleSet]] = {
    "balanced": BalancedSampler,
    "stratified": StratifiedSampler,
    "uniform": FeasibleSet,
}

TURNS = ("largest", "random", "smallest", "random")
"""The networks that successive steps of `alternate` train."""


class StepNetworks:
    """The networks of every step of a training.

    Args:
        space: the search space.
        budget: the limits that a network must keep before it is adapted.
        config: which networks a step trains, and how random ones are drawn.
        adapted: returns the proxy of a network, which is what is trained.
        seed: the training's seed.

    Raises `BudgetError` if no network of the space is inside the budget.
    """

    def __init__(
        self,
        space: SearchSpace,
        budget: Budget,
        config: SupernetConfig,
        adapted: Callable[[ArchConfig], ArchConfig],
        seed: int,
    ) -> None:
        self._config, self._adapted, self._seed = config, adapted, seed
        FeasibleSet(space, budget).check()
        self._space, self._budget = space, budget
        self._sampler = _SAMPLERS[config.subnet_sampling](space, budget)
        self._chunk = lru_cache(maxsize=2)(self._draw_chunk)

    @cached_property
    def largest(self) -> ArchConfig:
        """The proxy of the network with the most FLOPs inside the budget."""
        return self._adapted(extreme(self._space, self._budget, "most_expensive"))

    @cached_property
    def smallest(self) -> ArchConfig:
        """The proxy of the network with the fewest FLOPs inside the budget."""
        return self._adapted(extreme(self._space, self._budget, "cheapest"))

    def of_step(self, step: int, steps: int) -> list[ArchConfig]:
        """Returns the networks that step `step` of `steps` trains, the largest first if it is one of them."""
        if self._config.step_rule == "sandwich":
            count = self._config.random_networks
            drawn = [self.random(step * count + index) for index in range(count)]
            at_depths = [
                network for index, arch in enumerate(drawn) for network in self._at_depths(arch, step, steps, index)
            ]
            return [self.largest, self.smallest, *at_depths]
        turn = TURNS[step % len(TURNS)] if self._config.step_rule == "alternate" else "random"
        if turn != "random":
            return [self.largest if turn == "largest" else self.smallest]
        index = step // 2 if self._config.step_rule == "alternate" else step  # every other step is random
        return self._at_depths(self.random(index), step, steps, 0)

    def random(self, index: int) -> ArchConfig:
        """Returns the random network with that index in the training, at its full depth."""
        return self._chunk(index // _DRAWN_AT_ONCE)[index % _DRAWN_AT_ONCE]

    def _draw_chunk(self, chunk: int) -> list[ArchConfig]:
        rng = np.random.default_rng([self._seed, chunk])
        return [self._adapted(arch) for arch in self._sampler.sample_many(rng, _DRAWN_AT_ONCE)]

    def _at_depths(self, arch: ArchConfig, step: int, steps: int, index: int) -> list[ArchConfig]:
        """Returns a network at the recursion depths of a step, the shallowest first, or last if the deepest teaches.

        `index` is its place among the step's random ones.
        """
        rng = random.Random(f"depths {self._seed} {step} {index}")
        depths = depths_of_step(self._config.depth_schedule, arch.max_recursions, step / steps, rng)
        in_order = reversed(depths) if self._config.depth_distillation else depths
        return [arch.with_max_recursions(depth) for depth in in_order]


def extreme(space: SearchSpace, budget: Budget, end: Literal["cheapest", "most_expensive"]) -> ArchConfig:
    """Returns the network with the fewest or most FLOPs inside a budget. Raises `BudgetError` if there is none.

    If the budget excludes the extreme network of the space, the search is by random draws: each round draws networks
    beyond the best so far, until there are none. (In spaces too large to be counted exactly, until draws find none.)
    """
    feasible = FeasibleSet(space, budget)
    feasible.check()
    whole = feasible.most_expensive() if end == "most_expensive" else feasible.cheapest()
    if budget.allows(*whole[1:]):
        return whole.arch
    rng = np.random.default_rng(0)
    sign = 1 if end == "most_expensive" else -1
    nearest = feasible.nearest()
    best, flops = nearest.arch, nearest.flops
    while True:
        try:
            drawn = FeasibleSet(space, _beyond(budget, flops, sign)).sample_many(rng, _TRIES)
        except BudgetError:
            return best
        best = max(drawn, key=lambda arch: sign * cost_of(arch).flops)
        flops = cost_of(best).flops


def _beyond(budget: Budget, flops: int, sign: int) -> Budget:
    """Returns the part of a budget with more FLOPs (sign 1) or fewer (-1). Raises `BudgetError` if it is empty."""
    edge = budget.flops_max if sign == 1 else budget.flops_min
    if edge == flops:
        raise BudgetError(f"nothing lies beyond {flops} FLOPs")
    return replace(budget, **{"flops_min": flops + 1} if sign == 1 else {"flops_max": flops - 1})
