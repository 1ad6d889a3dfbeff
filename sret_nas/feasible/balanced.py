"""Draws in which every width of every stage is about equally frequent: what a supernet is trained on.

Under a budget, wide stages are rare among the feasible networks, and rarer still among draws spread over cost: what
only they use of shared weights would hardly be trained, and they would look worse than they are (benchmarks/ranking).
So draws spread over cost are weighted by a product of one factor per width of each stage, found by iterative
proportional fitting on a sample (Deming and Stephan, 1940), and drawn again by their weights.
"""

from __future__ import annotations

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace

FITTED_ON = 8192
"""Draws that factors are found on."""
SWEEPS = 100
MAX_WEIGHT = 4.0
"""Of a width, over the geometric mean of its stage. Where a budget allows very few wide networks these stay rarer, or
the same few would be drawn over and over."""
OVERSAMPLING = 8
"""Draws spread over cost for each that is kept."""


class BalancedSampler:
    """The networks of a space inside a budget, drawn with all widths alike. Raises `BudgetError` if there are none."""

    def __init__(self, space: SearchSpace, budget: Budget) -> None:
        self.space = space
        self._strata = StratifiedSampler(space, budget)
        widths = choice_costs_of(space).width
        self._place = [np.unique(width, return_inverse=True)[1] for width in widths]
        """Per stage, for every choice, which of the stage's widths it has."""
        self.factors = self._fitted(self._strata.sample_choices(np.random.default_rng(0), FITTED_ON))

    def _fitted(self, choices: IntArray) -> list[FloatArray]:
        """Factors, per stage and width, under which each width of the sample has the same share of its stage."""
        logs = [np.zeros(place.max() + 1) for place in self._place]
        limit = np.log(MAX_WEIGHT)
        for _ in range(SWEEPS):
            for stage, place in enumerate(self._place):
                at = place[choices[:, stage]]
                share = np.bincount(at, self._weights(choices, logs), len(logs[stage]))
                present = share > 0
                logs[stage][present] -= 0.5 * np.log(share[present] * present.sum())  # by half: stages pull at another
                logs[stage] = np.clip(logs[stage] - logs[stage][present].mean(), -limit, limit)
        return [np.exp(log) for log in logs]

    def _weights(self, choices: IntArray, logs: list[FloatArray]) -> FloatArray:
        """Probabilities of draws, of shape (draws,)."""
        total = sum(
            log[place[choices[:, stage]]] for stage, (log, place) in enumerate(zip(logs, self._place, strict=True))
        )
        weights = np.exp(total - np.max(total))
        shares: FloatArray = weights / weights.sum()
        return shares

    def sample_many(self, rng: np.random.Generator, number: int) -> list[ArchConfig]:
        """Draws in random order; with few of them, the same network may come twice."""
        choices = self._strata.sample_choices(rng, OVERSAMPLING * number)
        weights = self._weights(choices, [np.log(factor) for factor in self.factors])
        kept = choices[rng.choice(len(choices), number, p=weights)]
        costs = choice_costs_of(self.space)
        return [costs.network(self.space, tuple(row)) for row in kept.tolist()]
