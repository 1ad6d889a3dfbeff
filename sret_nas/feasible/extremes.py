"""The ends of a space: the networks that no other beats in FLOPs and parameters, and the one nearest to a budget."""

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
"""Costs times their signs, of shape (n, 2), and the choices that cost it, of shape (n, stages); none beats another."""


def undominated_networks(space: SearchSpace, signs: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    """The choices of all networks that no other one beats in both costs: few of each with sign 1, many with -1.

    Where several networks cost the same, one of them stands for all. The space keeps them.
    """
    return space.tables.get((undominated_networks, signs), lambda: _undominated_networks(space, signs))


def _undominated_networks(space: SearchSpace, signs: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    """What is beaten in a prefix stays beaten whatever follows, so every stage starts from the undominated prefixes of
    each width."""
    costs = choice_costs_of(space)
    fronts = _fronts_of_stage(costs, 0, signs)
    for stage in range(1, len(costs.width)):
        links = costs.links[stage - 1]
        fronts = {
            width: _merged([
                _sums(before, front, np.array(links[width_before, width], dtype=np.int64) * signs)
                for width_before, before in fronts.items()
            ])
            for width, front in _fronts_of_stage(costs, stage, signs).items()
        }  # fmt: skip
    _, networks = _merged(list(fronts.values()))
    return tuple(tuple(int(choice) for choice in network) for network in networks)


def nearest_extreme(space: SearchSpace, budget: Budget) -> tuple[int, ...]:
    """The choices of the network with the least excess among those that are extreme in both costs.

    Less FLOPs is never worse if FLOPs have no minimum, more never if they have no budget; likewise parameters. So
    where no cost has both, no network at all has less excess. Where one has, both directions are tried.
    """
    directions = [
        [sign for sign, bound in ((1, high), (-1, low)) if bound is not None] or [1]
        for low, high in ((budget.flops_min, budget.flops_max), (budget.params_min, budget.params_max))
    ]
    costs = choice_costs_of(space)
    ends = {
        choices: costs.cost(choices)
        for flops_sign, params_sign in product(*directions)
        for choices in undominated_networks(space, (flops_sign, params_sign))
    }
    return min(ends, key=lambda choices: (budget.excess(*ends[choices]), ends[choices]))


def tighter_budget(budget: Budget, flops: int, params: int) -> Budget:
    """The budget of all networks with less excess than one of these costs, which break a bound."""
    above = ((flops, budget.flops_max), (params, budget.params_max))
    below = ((flops, budget.flops_min), (params, budget.params_min))
    excess = max(
        [Fraction(cost, high) - 1 for cost, high in above if high is not None]
        + [Fraction(low, cost) - 1 for cost, low in below if low is not None]
    )

    def highest(bound: int | None) -> int | None:
        return None if bound is None else ceil(bound * (1 + excess)) - 1

    def lowest(bound: int | None) -> int | None:
        return None if bound is None else floor(bound / (1 + excess)) + 1

    return Budget(
        flops_max=highest(budget.flops_max), params_max=highest(budget.params_max),
        flops_min=lowest(budget.flops_min), params_min=lowest(budget.params_min),
    )  # fmt: skip


def _fronts_of_stage(costs: ChoiceCosts, stage: int, signs: tuple[int, int]) -> dict[int, _Front]:
    """The undominated choices of one stage, by width."""
    fronts = {}
    for width in np.unique(costs.width[stage]).tolist():
        choices = np.flatnonzero(costs.width[stage] == width)
        flops, params = costs.flops[stage][choices], costs.params[stage][choices]
        fronts[width] = _undominated(np.stack([flops, params], axis=1) * signs, choices[:, None])
    return fronts


def _merged(fronts: list[_Front]) -> _Front:
    return _undominated(*(np.concatenate(arrays) for arrays in zip(*fronts, strict=True)))


def _undominated(costs: IntArray, choices: IntArray) -> _Front:
    costs, first = np.unique(costs, axis=0, return_index=True)
    kept = non_dominated(costs)
    return costs[kept], choices[first[kept]]


def _sums(before: _Front, stage: _Front, link: IntArray) -> _Front:
    """Costs and choices of all pairs of a prefix and a stage."""
    first, second = np.divmod(np.arange(len(before[0]) * len(stage[0])), len(stage[0]))
    return before[0][first] + stage[0][second] + link, np.hstack([before[1][first], stage[1][second]])
