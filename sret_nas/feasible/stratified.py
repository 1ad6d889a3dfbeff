"""Draws spread evenly over cost: the feasible networks cut into strata of log-cost, with as many draws from each.

Uniform draws pile up in the middle, where most networks are; a front runs from the cheapest to the most expensive.
Within its stratum a draw is uniform, so that its probability is known.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import cast

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arrays import IntArray
from sret_nas.feasible.feasible_set import CostName, FeasibleSet
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace


class StratifiedSampler:
    """The networks of a space inside a budget, in at most `number` strata of equal width in the logarithm of a cost.

    Strata without a network are left out. Raises `BudgetError` if no network lies inside the budget.
    """

    def __init__(self, space: SearchSpace, budget: Budget, number: int = 16, by: CostName = "flops") -> None:
        feasible = FeasibleSet(space, budget)
        feasible.check()
        self.space = space
        self.by = by
        least = getattr(feasible.cheapest(by), by)
        most = getattr(feasible.most_expensive(by), by)
        low = max(least, getattr(budget, f"{by}_min") or 0)
        high = min(most, getattr(budget, f"{by}_max") or most)
        # The last edge lies one above the highest cost; edges are whole, as costs are, so no network is in two strata.
        edges = np.unique(np.geomspace(low, high + 1, number + 1).round().astype(np.int64))
        edges[0], edges[-1] = low, high + 1
        windows = [
            replace(budget, **{f"{by}_min": start, f"{by}_max": end - 1}) for start, end in pairwise(edges.tolist())
        ]
        self.strata: tuple[FeasibleSet, ...] = tuple(
            stratum for stratum in feasible.split(windows) if stratum.count > 0
        )

    def sample_many(self, rng: np.random.Generator, number: int) -> list[ArchConfig]:
        """Independent draws in random order: as many from each stratum, give or take one; uniform within it."""
        costs = choice_costs_of(self.space)
        return [costs.network(self.space, tuple(row)) for row in self.sample_choices(rng, number).tolist()]

    def sample_choices(self, rng: np.random.Generator, number: int) -> IntArray:
        """Draws of `sample_many` as choices (see `sret_nas.space.choice_costs`), of shape (number, stages)."""
        rounds = -(-number // len(self.strata))
        order = rng.permuted(np.tile(np.arange(len(self.strata)), (rounds, 1)), axis=1).ravel()[:number]
        choices = np.empty((number, len(self.space.stages)), dtype=np.int64)
        for position, stratum in enumerate(self.strata):
            chosen = order == position
            choices[chosen] = stratum.sample_choices(rng, int(chosen.sum()))
        return choices

    def probability(self, arch: ArchConfig) -> float:
        """How probable a network is in one draw from a stratum that was itself drawn at random; 0 outside the budget.

        Exact where `FeasibleSet.count` is.
        """
        cost = cost_of(arch)
        holders = (stratum for stratum in self.strata if stratum.budget.allows(cost.flops, cost.params))
        return sum(stratum.probability(arch) for stratum in holders) / len(self.strata)


class StrataByCost:
    """The strata of a budget by FLOPs and by parameters, each counted when it is asked for first.

    Counting takes up to two seconds in a narrow window.
    """

    def __init__(self, space: SearchSpace, budget: Budget) -> None:
        self._space, self._budget = space, budget
        self._strata: dict[str, StratifiedSampler] = {}

    def of(self, by: str) -> StratifiedSampler:
        """Returns the strata of a `CostName`. Raises `BudgetError` if no network lies inside the budget."""
        if by not in self._strata:
            self._strata[by] = StratifiedSampler(self._space, self._budget, by=cast(CostName, by))
        return self._strata[by]
