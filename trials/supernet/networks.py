"""Which networks a step trains: a function of seed and step alone, so that a resumed training draws the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
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
from .config import Draws, SupernetConfig

_DRAWN_AT_ONCE = 256
"""Random networks per draw from the space: much faster than one by one, and whole rounds of the strata."""

_TRIES = 64
"""Draws of which the most expensive narrows the window in which the most expensive of all is looked for."""

_MEMBERS: dict[Draws, Callable[[SearchSpace, Budget], BalancedSampler | StratifiedSampler | FeasibleSet]] = {
    "balanced": BalancedSampler,
    "stratified": StratifiedSampler,
    "uniform": FeasibleSet,
}

TURNS = ("largest", "random", "smallest", "random")
"""What the steps of `alternate` train."""


class StepNetworks:
    """The networks of every step, as the proxies that `adapted` makes of networks of the space inside the budget.

    Raises `BudgetError` if there are none.
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
        self._members = _MEMBERS[config.draws](space, budget)
        self.largest = adapted(extreme(space, budget, "most_expensive"))
        self.smallest = adapted(extreme(space, budget, "cheapest"))
        self._chunk = lru_cache(maxsize=2)(self._draw_chunk)

    def of_step(self, step: int, steps: int) -> list[ArchConfig]:
        """What step `step` of `steps` trains, the largest first where it is among them."""
        if self._config.rule == "sandwich":
            each = self._config.random_networks
            drawn = [self.random(step * each + number) for number in range(each)]
            cut = [network for number, arch in enumerate(drawn) for network in self._cut(arch, step, steps, number)]
            return [self.largest, self.smallest, *cut]
        turn = TURNS[step % len(TURNS)] if self._config.rule == "alternate" else "random"
        if turn != "random":
            return [self.largest if turn == "largest" else self.smallest]
        number = step // 2 if self._config.rule == "alternate" else step
        return self._cut(self.random(number), step, steps, 0)

    def random(self, number: int) -> ArchConfig:
        """The random network of that number, at its full depth."""
        return self._chunk(number // _DRAWN_AT_ONCE)[number % _DRAWN_AT_ONCE]

    def _draw_chunk(self, chunk: int) -> list[ArchConfig]:
        rng = np.random.default_rng([self._seed, chunk])
        return [self._adapted(arch) for arch in self._members.sample_many(rng, _DRAWN_AT_ONCE)]

    def _cut(self, arch: ArchConfig, step: int, steps: int, number: int) -> list[ArchConfig]:
        """A network at the recursion depths to which the step runs it."""
        rng = random.Random(f"depths {self._seed} {step} {number}")
        depths = depths_of_step(self._config.depth_schedule, arch.max_recursions, step / steps, rng)
        return [arch.with_max_recursions(depth) for depth in depths]


def extreme(space: SearchSpace, budget: Budget, end: Literal["cheapest", "most_expensive"]) -> ArchConfig:
    """The network with the fewest or most FLOPs inside a budget. Raises `BudgetError` if there is none.

    Where the budget cuts the end of the space off, draws lead to it: each round draws from what lies beyond the best
    so far, until nothing does. (In spaces too rich to be counted exactly, until draws find nothing.)
    """
    feasible = FeasibleSet(space, budget)
    feasible.check()
    whole = feasible.most_expensive() if end == "most_expensive" else feasible.cheapest()
    if budget.allows(whole.flops, whole.params):
        return whole.arch
    rng = np.random.default_rng(0)
    sign = 1 if end == "most_expensive" else -1
    best, flops = feasible.nearest().arch, feasible.nearest().flops
    while True:
        try:
            found = FeasibleSet(space, _beyond(budget, flops, sign)).sample_many(rng, _TRIES)
        except BudgetError:
            return best
        best = max(found, key=lambda arch: sign * cost_of(arch).flops)
        flops = cost_of(best).flops


def _beyond(budget: Budget, flops: int, sign: int) -> Budget:
    """The part of a budget with more FLOPs (sign 1) or fewer (-1). Raises `BudgetError` if nothing is left."""
    edge = budget.flops_max if sign == 1 else budget.flops_min
    if edge == flops:
        raise BudgetError(f"nothing lies beyond {flops} FLOPs")
    return replace(budget, **{"flops_min": flops + 1} if sign == 1 else {"flops_max": flops - 1})
