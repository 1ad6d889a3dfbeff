"""Balanced sampling for training a supernet: every width and every variant is about equally frequent.

Under a budget, wide stages are rare among the feasible networks, and rarer still among draws stratified by cost. The
shared weights that only they use would hardly be trained, and they would look worse than they are (benchmarks/ranking).
Stratified draws are therefore resampled with weights: the product of one factor per stage, which depends on its width,
and of one for each variant of the network that the space lists: the kind and norm of the stem, the residual
connections, and the head. The factors are found by iterative proportional fitting on a sample (Deming and Stephan,
1940).
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
"""Draws that the factors are fitted on."""
SWEEPS = 100
"""Iterations of the fit over all factors."""
MAX_WEIGHT = 4.0
"""Largest factor of a width, relative to the geometric mean of its stage (of a variant: of its values).
If a budget allows very few wide networks, they stay rarer; otherwise the same few would be drawn again and again."""
OVERSAMPLING = 8
"""Stratified draws per kept draw."""


class BalancedSampler:
    """Draws networks inside a budget such that all widths of a stage, and all variants, are about equally frequent."""

    def __init__(self, space: SearchSpace, budget: Budget) -> None:
        """Fits the factors. Raises `BudgetError` if no network lies inside the budget."""
        self.space = space
        self._strata = StratifiedSampler(space, budget)
        costs = choice_costs_of(space)
        self._balanced = [(stage, _positions(width)) for stage, width in enumerate(costs.width)]
        """What each factor depends on: a stage, and the position of each of its choices among the balanced values."""
        last = len(space.stages) - 1
        for stage, variants in (
            (0, [option.stem and option.stem[1:] for option in costs.options[0]]),  # kind and norm
            (0, [option.residual for option in costs.options[0]]),
            (last, [option.head for option in costs.options[last]]),
        ):
            if len(distinct := list(dict.fromkeys(variants))) > 1:
                positions = np.array([distinct.index(variant) for variant in variants])
                self._balanced.append((stage, positions[costs.option[stage]]))
        self.factors = self._fit_factors(self._strata.sample_choices(np.random.default_rng(0), FITTED_ON))

    def _fit_factors(self, choices: IntArray) -> list[FloatArray]:
        """Returns factors, one array for each of `_balanced`, that give its values equal shares of the sample."""
        logs = [np.zeros(position.max() + 1) for _, position in self._balanced]
        limit = np.log(MAX_WEIGHT)
        for _ in range(SWEEPS):
            for number, (stage, position) in enumerate(self._balanced):
                drawn, log = position[choices[:, stage]], logs[number]
                share = np.bincount(drawn, self._weights(choices, logs), len(log))
                present = share > 0
                log[present] -= 0.5 * np.log(share[present] * present.sum())  # half a step: factors affect each other
                logs[number] = np.clip(log - log[present].mean(), -limit, limit)
        return [np.exp(log) for log in logs]

    def _weights(self, choices: IntArray, logs: list[FloatArray]) -> FloatArray:
        """Returns the resampling probabilities of draws, of shape (draws,)."""
        total = sum(
            log[position[choices[:, stage]]] for log, (stage, position) in zip(logs, self._balanced, strict=True)
        )
        weights = np.exp(total - np.max(total))
        shares: FloatArray = weights / weights.sum()
        return shares

    def sample_many(self, rng: np.random.Generator, num_draws: int) -> list[ArchConfig]:
        """Draws networks in random order; a network may occur more than once."""
        choices = self._strata.sample_choices(rng, OVERSAMPLING * num_draws)
        weights = self._weights(choices, [np.log(factor) for factor in self.factors])
        kept = choices[rng.choice(len(choices), num_draws, p=weights)]
        costs = choice_costs_of(self.space)
        return [costs.network(self.space, tuple(row)) for row in kept.tolist()]


def _positions(values: IntArray) -> IntArray:
    """Returns the position of each value among the distinct ones, sorted."""
    positions: IntArray = np.unique(values, return_inverse=True)[1]
    return positions
