"""Draws spread evenly over cost: the feasible networks cut into strata of log-cost, with as many draws from each.

Uniform draws pile up in the middle, where most networks are; a front runs from the cheapest to the dearest. Within its
stratum a draw is uniform, so that its probability is known.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from sret_nas.arch import ArchConfig
from sret_nas.budget import Budget
from sret_nas.cost import cost_of
from sret_nas.feasible import CostName, FeasibleSet
from sret_nas.space import SearchSpace


class CostStrata:
    """The networks of a space inside a budget, in at most `number` strata of equal width in the logarithm of a cost.

    Strata without a network are left out. Raises `BudgetError` if no network lies inside the budget.
    """

    def __init__(self, space: SearchSpace, budget: Budget, number: int = 16, by: CostName = "flops") -> None:
        feasible = FeasibleSet(space, budget)
        feasible.check()
        self.by = by
        least = getattr(feasible.cheapest(by), by)
        most = getattr(feasible.dearest(by), by)
        low = max(least, getattr(budget, f"{by}_min") or 0)
        high = min(most, getattr(budget, f"{by}_max") or most)
        # The last edge lies one above the highest cost; edges are whole, as costs are, so no network is in two strata.
        edges = np.unique(np.geomspace(low, high + 1, number + 1).round().astype(np.int64))
        edges[0], edges[-1] = low, high + 1
        windows = (
            replace(budget, **{f"{by}_min": start, f"{by}_max": end - 1}) for start, end in pairwise(edges.tolist())
        )
        strata = (FeasibleSet(space, window) for window in windows)
        self.strata: tuple[FeasibleSet, ...] = tuple(stratum for stratum in strata if stratum.count > 0)

    def sample_many(self, rng: np.random.Generator, number: int) -> list[ArchConfig]:
        """Independent draws in random order: as many from each stratum, give or take one; uniform within it."""
        order = np.concatenate([
            rng.permutation(len(self.strata)) for _ in range(-(-number // len(self.strata)))
        ])[:number]  # fmt: skip
        return [self.strata[stratum].sample(rng) for stratum in order.tolist()]

    def probability(self, arch: ArchConfig) -> float:
        """How probable a network is in one draw from a stratum that was itself drawn at random; 0 outside the budget.

        Exact where `FeasibleSet.count` is.
        """
        cost = cost_of(arch)
        for stratum in self.strata:
            if stratum.budget.allows(cost.flops, cost.params):
                return 1 / len(self.strata) / stratum.count
        return 0.0
