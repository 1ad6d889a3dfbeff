"""Stratified sampling over cost: feasible networks are cut into strata of log cost, each drawn from equally often.

Uniform draws concentrate at medium costs, where most networks are, but a Pareto front runs from the cheapest to the
most expensive. Draws are uniform within a stratum, so their probabilities are known.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import cast

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import bounded_costs
from sret_nas.arrays import IntArray
from sret_nas.feasible.feasible_set import CostName, FeasibleSet
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace


class StratifiedSampler:
    """Draws networks inside a budget, equally often from each stratum of one cost."""

    def __init__(self, space: SearchSpace, budget: Budget, num_strata: int = 16, by: CostName = "flops") -> None:
        """Cuts the networks inside the budget into strata.

        Args:
            space: The networks to draw from.
            budget: Bounds on their costs.
            num_strata: Most strata; all have the same width in log cost, and empty ones are dropped.
            by: The cost to stratify by.

        Raises:
            BudgetError: No network lies inside the budget.
        """
        feasible = FeasibleSet(space, budget)
        feasible.check()
        self.space = space
        self.by = by
        least = getattr(feasible.cheapest(by), by)
        most = getattr(feasible.most_expensive(by), by)
        low = max(least, getattr(budget, f"{by}_min") or 0)
        high = min(most, getattr(budget, f"{by}_max") or most)
        # Costs are integers, and so are the edges: stratum i ends one below edge i + 1, so no network is in two strata.
        edges = np.unique(np.geomspace(low, high + 1, num_strata + 1).round().astype(np.int64))
        edges[0], edges[-1] = low, high + 1
        windows = [
            replace(budget, **{f"{by}_min": start, f"{by}_max": end - 1}) for start, end in pairwise(edges.tolist())
        ]
        self.strata: tuple[FeasibleSet, ...] = tuple(
            stratum for stratum in feasible.split(windows) if stratum.has_members
        ) or (feasible,)  # estimated counts of all strata can be 0 although there are networks

    def sample_many(self, rng: np.random.Generator, num_draws: int) -> list[ArchConfig]:
        """Draws networks in random order: strata get equally many draws (up to one), uniform within each."""
        costs = choice_costs_of(self.space)
        return [costs.network(self.space, tuple(row)) for row in self.sample_choices(rng, num_draws).tolist()]

    def sample_choices(self, rng: np.random.Generator, num_draws: int) -> IntArray:
        """Draws like `sample_many`, but returns choices (see `ChoiceCosts`), of shape (num_draws, stages)."""
        rounds = -(-num_draws // len(self.strata))
        order = rng.permuted(np.tile(np.arange(len(self.strata)), (rounds, 1)), axis=1).ravel()[:num_draws]
        choices = np.empty((num_draws, len(self.space.stages)), dtype=np.int64)
        for position, stratum in enumerate(self.strata):
            chosen = order == position
            if chosen.any():  # even no draw would first look for the extremes of the stratum
                choices[chosen] = stratum.sample_choices(rng, int(chosen.sum()))
        return choices

    def probability(self, arch: ArchConfig) -> float:
        """Returns the probability of a network in one draw from a randomly chosen stratum; 0 outside the budget.

        It is exact if `FeasibleSet.count` is.
        """
        costs = bounded_costs(arch)
        holders = (stratum for stratum in self.strata if stratum.budget.allows(*costs))
        return sum(stratum.probability(arch) for stratum in holders) / len(self.strata)


class StrataByCost:
    """The strata of one budget by FLOPs and by parameters, computed on first use.

    Counting the networks of narrow strata takes up to two seconds.
    """

    def __init__(self, space: SearchSpace, budget: Budget) -> None:
        self._space, self._budget = space, budget
        self._strata: dict[str, StratifiedSampler] = {}

    def of(self, by: str) -> StratifiedSampler:
        """Returns the sampler for a `CostName`. Raises `BudgetError` if no network lies inside the budget."""
        if by not in self._strata:
            self._strata[by] = StratifiedSampler(self._space, self._budget, by=cast(CostName, by))
        return self._strata[by]
