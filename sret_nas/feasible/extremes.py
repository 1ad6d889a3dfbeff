"""Extreme networks of a space: the Pareto fronts of FLOPs and parameters, and the network nearest to a budget."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import ceil, floor

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arrays import IntArray
from sret_nas.pareto import non_dominated
from sret_nas.space.choice_costs import ChoiceCosts, choice_costs_of
from sret_nas.space.search_space import SearchSpace

_Front = tuple[IntArray, IntArray]
"""A Pareto front: costs times their signs, of shape (n, costs), and choices, of shape (n, stages)."""


def undominated_networks(space: SearchSpace, signs: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Returns the Pareto front of the space in FLOPs and parameters, as choices, computed once per space.

    A cost with sign 1 is minimised, with sign -1 maximised; one with sign 0 does not matter. Of networks with equal
    costs there is one. A third sign is that of the FLOPs at the shallowest depth.
    """
    return space.tables.get((undominated_networks, signs), lambda: _undominated_networks(space, signs))


def _undominated_networks(space: SearchSpace, signs: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Computes the front by dynamic programming over the stages.

    A prefix that is dominated stays dominated whatever follows, so only the front of each state is extended.
    """
    costs = choice_costs_of(space)
    fronts = _fronts_of_stage(costs, 0, signs)
    for stage in range(1, len(costs.state)):
        links = costs.links[stage - 1]
        fronts = {
            state: _merged([
                _sums(before, front, _link_costs(links[state_before, state], signs))
                for state_before, before in fronts.items()
                if (state_before, state) in links
            ])
            for state, front in _fronts_of_stage(costs, stage, signs).items()
        }  # fmt: skip
    _, networks = _merged(list(fronts.values()))
    return tuple(tuple(int(choice) for choice in network) for network in networks)


def nearest_extreme(space: SearchSpace, budget: Budget) -> tuple[int, ...]:
    """Returns the choices of the extreme network with the least excess over a budget.

    A cost without a minimum is minimised, one without a maximum is maximised, because that never increases the excess.
    So unless a cost has both, no network of the space has less excess. If a cost has both, both directions are tried.

    Three bounded costs of which some are minimised and some maximised have fronts that are far too long. There, it is
    the best of the fronts of two of them, and networks with less excess may exist.
    """
    directions = [
        [sign for sign, bound in ((1, high), (-1, low)) if bound is not None] or [1]
        for low, high in ((budget.flops_min, budget.flops_max), (budget.params_min, budget.params_max))
    ]
    every: set[tuple[int, ...]] = set(product(*directions))
    if budget.shallowest_flops_max is not None:
        every = {
            tuple(sign if position in budget.bounded else 0 for position, sign in enumerate((*signs, 1)))
            for signs in every
        }
        mixed = {signs for signs in every if 0 not in signs and -1 in signs}
        every -= mixed
        every |= {(*signs[:out], 0, *signs[out + 1 :]) for signs in mixed for out in range(3)}
    costs = choice_costs_of(space)
    extremes = {
        choices: costs.bounded(choices) for signs in sorted(every) for choices in undominated_networks(space, signs)
    }
    return min(extremes, key=lambda choices: (budget.excess(*extremes[choices]), extremes[choices]))


def tighter_budget(budget: Budget, flops: int, params: int, shallowest_flops: int | None = None) -> Budget:
    """Returns the budget that exactly the networks with less excess than the given costs meet.

    The costs must break a bound. Fractions keep the comparison exact.
    """
    above = (
        (flops, budget.flops_max), (params, budget.params_max), (shallowest_flops or 0, budget.shallowest_flops_max)
    )  # fmt: skip
    below = ((flops, budget.flops_min), (params, budget.params_min))
    excess = max(
        [Fraction(cost, high) - 1 for cost, high in above if high is not None]
        + [Fraction(low, cost) - 1 for cost, low in below if low is not None]
    )

    def highest(bound: int | None) -> int | None:
        """Returns the highest cost whose excess over the bound is still less."""
        return None if bound is None else ceil(bound * (1 + excess)) - 1

    def lowest(bound: int | None) -> int | None:
        """Returns the lowest cost whose excess below the bound is still less."""
        return None if bound is None else floor(bound / (1 + excess)) + 1

    return Budget(
        flops_max=highest(budget.flops_max), params_max=highest(budget.params_max),
        flops_min=lowest(budget.flops_min), params_min=lowest(budget.params_min),
        shallowest_flops_max=highest(budget.shallowest_flops_max),
    )  # fmt: skip


def _link_costs(link: tuple[int, int], signs: tuple[int, ...]) -> IntArray:
    """Returns the signed costs of a pooling, which has the same FLOPs at every depth."""
    return np.array((*link, link[0])[: len(signs)], dtype=np.int64) * signs


def _fronts_of_stage(costs: ChoiceCosts, stage: int, signs: tuple[int, ...]) -> dict[int, _Front]:
    """Returns the front of one stage's choices for each state."""
    fronts = {}
    for state in np.unique(costs.state[stage]).tolist():
        choices = np.flatnonzero(costs.state[stage] == state)
        columns = (costs.flops, costs.params, costs.shallowest_flops)[: len(signs)]
        own = np.stack([column[stage][choices] for column in columns], axis=1)
        fronts[state] = _undominated(own * signs, choices[:, None])
    return fronts


def _merged(fronts: list[_Front]) -> _Front:
    """Returns the front of several fronts together."""
    return _undominated(*(np.concatenate(arrays) for arrays in zip(*fronts, strict=True)))


def _undominated(costs: IntArray, choices: IntArray) -> _Front:
    """Returns the front of choices with their signed costs, one per distinct cost."""
    costs, first = np.unique(costs, axis=0, return_index=True)
    kept = non_dominated(costs[:, (costs != 0).any(axis=0)] if costs.any() else costs)  # fewer costs are far faster
    return costs[kept], choices[first[kept]]


def _sums(before: _Front, stage: _Front, link: IntArray) -> _Front:
    """Returns costs and choices of all pairs of a prefix and a choice of the next stage."""
    first, second = np.divmod(np.arange(len(before[0]) * len(stage[0])), len(stage[0]))
    return before[0][first] + stage[0][second] + link, np.hstack([before[1][first], stage[1][second]])
