"""Extreme networks against all networks of small spaces."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from sret_nas.arch.budget import Budget
from sret_nas.feasible.extremes import nearest_extreme, tighter_budget, undominated_networks
from sret_nas.pareto import non_dominated
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import FIRST, FOUR_STAGES, HEADS, RESIDUALS, STEMS, THIRD, EveryNetwork, space_of

SPACES = {
    "two stages": space_of(FIRST, THIRD),
    "four stages": FOUR_STAGES,
    "all stems": STEMS,
    "all residuals": RESIDUALS,
    "all heads": HEADS,
}
EVERY = {name: EveryNetwork(space) for name, space in SPACES.items()}


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=2)))
@pytest.mark.parametrize("name", SPACES)
def test_the_front_of_both_costs(name: str, signs: tuple[int, int]) -> None:
    costs = np.unique(np.column_stack([EVERY[name].flops, EVERY[name].params]) * signs, axis=0)
    expected = sorted(map(tuple, costs[non_dominated(costs)].tolist()))
    networks = undominated_networks(SPACES[name], signs)
    found = [choice_costs_of(SPACES[name]).cost(network) for network in networks]
    assert sorted((flops * signs[0], params * signs[1]) for flops, params in found) == expected
    assert all(type(choice) is int for network in networks for choice in network)
    assert undominated_networks(SPACES[name], signs) is networks


def budgets(name: str) -> list[Budget]:
    """Returns budgets of every form that no network meets, and one that some do."""
    flops, params = (int(costs.min()) for costs in (EVERY[name].flops, EVERY[name].params))
    dear, heavy = (int(costs.max()) for costs in (EVERY[name].flops, EVERY[name].params))
    return [
        Budget(flops_max=flops // 2), Budget(params_max=params // 3), Budget(flops_min=2 * dear),
        Budget(params_min=3 * heavy), Budget(flops_max=flops // 2, params_max=params // 2),
        Budget(flops_max=flops, params_max=params // 2), Budget(flops_min=2 * dear, params_min=3 * heavy),
        Budget(flops_max=flops + 1, params_min=heavy), Budget(flops_min=dear, params_max=params + 1),
        Budget(flops_max=(flops + dear) // 2),
    ]  # fmt: skip


@pytest.mark.parametrize("name", SPACES)
def test_the_nearest_extreme_is_the_nearest_network(name: str) -> None:
    """Of equally near ones, the one of least FLOPs, then of least parameters."""
    every, costs = EVERY[name], choice_costs_of(SPACES[name])
    pairs = list(zip(every.flops.tolist(), every.params.tolist(), strict=True))
    for budget in budgets(name):
        found = costs.cost(nearest_extreme(SPACES[name], budget))
        assert budget.excess(*found) == min(budget.excess(*pair) for pair in pairs), budget


def test_where_a_cost_has_both_bounds_all_ends_are_tried() -> None:
    """Between the bounds there is nothing, and the window is nearer to the dearest end."""
    space: SearchSpace = FOUR_STAGES
    dear = int(EVERY["four stages"].flops.max())
    near = choice_costs_of(space).cost(nearest_extreme(space, Budget(flops_min=dear + 1, flops_max=dear + 2)))
    assert near[0] == dear
    cheap = int(EVERY["four stages"].params.min())
    near = choice_costs_of(space).cost(nearest_extreme(space, Budget(params_min=cheap - 2, params_max=cheap - 1)))
    assert near[1] == cheap


@pytest.mark.parametrize(
    "budget",
    [
        Budget(flops_max=70), Budget(params_max=30), Budget(flops_min=130), Budget(params_min=77),
        Budget(flops_max=70, params_max=30), Budget(flops_min=30, flops_max=70, params_min=20, params_max=40),
    ],
    ids=lambda budget: budget.describe(),
)  # fmt: skip
def test_a_tighter_budget_is_met_by_what_is_nearer_and_by_nothing_else(budget: Budget) -> None:
    for flops, params in [(90, 50), (71, 31), (129, 76), (25, 15)]:
        excess = exact_excess(budget, flops, params)
        if excess <= 0:
            continue
        tighter = tighter_budget(budget, flops, params)
        for other in product((flops, *range(1, 160, 3)), (params, *range(1, 90, 7))):
            assert tighter.allows(*other) == (exact_excess(budget, *other) < excess), (flops, params, other)


@pytest.mark.parametrize(("flops", "shallowest"), [(90, 20), (60, 45), (90, 45)])
def test_a_tighter_budget_also_bounds_the_shallowest_depth(flops: int, shallowest: int) -> None:
    budget = Budget(flops_max=70, params_min=20, shallowest_flops_max=30)
    excess = exact_excess(budget, flops, 25, shallowest)
    tighter = tighter_budget(budget, flops, 25, shallowest)
    for other in product(range(50, 100, 3), (10, 17, 25), (*range(10, 60, 3), shallowest)):
        assert tighter.allows(*other) == (exact_excess(budget, *other) < excess), other


def exact_excess(budget: Budget, flops: int, params: int, shallowest: int = 0) -> Fraction:
    """Returns the largest share by which a bound is missed, or at most 0."""
    above = [(flops, budget.flops_max), (params, budget.params_max), (shallowest, budget.shallowest_flops_max)]
    below = [(flops, budget.flops_min), (params, budget.params_min)]
    return max(
        [Fraction(cost, bound) - 1 for cost, bound in above if bound is not None]
        + [Fraction(bound, cost) - 1 for cost, bound in below if bound is not None]
    )
