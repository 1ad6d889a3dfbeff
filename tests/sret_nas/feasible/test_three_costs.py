"""Budgets that bound the FLOPs at the shallowest depth, alone and with other costs: against brute force."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import bounded_costs, cost_of
from sret_nas.arrays import IntArray
from sret_nas.errors import BudgetError
from sret_nas.feasible import three_costs
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.feasible.three_costs import count_inside
from sret_nas.space.chain import chain_of, with_shallowest
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.choices import StemChoices
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import (
    FIRST,
    FOUR_STAGES,
    HEADS,
    MIDDLING,
    PATCHES,
    RESIDUALS,
    SECOND,
    THIRD,
    VARIED,
    EveryNetwork,
    chi_square_deviation,
    shipped,
    space_of,
)

SPACES = {
    "smoke": shipped("smoke"),
    "one stage": space_of(FIRST),
    "two stages": space_of({**FIRST, "width": [8], "heads": [2]}, THIRD),
    "three stages, two stems": space_of(THIRD, SECOND, THIRD, stem={"width": [8, 12], "strides": [1, 2, 2]}),
    "four stages": FOUR_STAGES,
    "variants": VARIED,
    "variants of patches": PATCHES,
    "all residuals": RESIDUALS,
    "all heads": HEADS,
    "two residuals, four stages": FOUR_STAGES.model_copy(update={"residual": ("path", "plain"), "stem": StemChoices()}),
}

Costs = dict[str, tuple[int, int, int]]


@pytest.fixture(scope="module", params=SPACES)
def case(request: pytest.FixtureRequest) -> tuple[SearchSpace, Costs]:
    """Returns a space, and what its networks cost, by id: each is built, cut to one recursion, and costed again."""
    space = SPACES[request.param]
    archs = [choice_costs_of(space).network(space, tuple(row)) for row in EveryNetwork(space).choices.tolist()]
    return space, {arch.arch_id: three(arch) for arch in archs}


def three(arch: ArchConfig) -> tuple[int, int, int]:
    cost, shallow = cost_of(arch), cost_of(arch.with_max_recursions(1).canonical())
    return cost.flops, cost.params, shallow.flops


def budgets(costs: Costs, number: int) -> Iterator[Budget]:
    """Yields budgets of every form that bound the shallowest depth; their bounds are costs that occur, or lie one
    beside."""
    rng = random.Random(0)
    columns = [sorted(set(column)) for column in zip(*costs.values(), strict=True)]
    for _ in range(number):
        f, p, s = (sorted(rng.choice(column) + rng.choice([-1, 0, 0, 1]) for _ in range(2)) for column in columns)
        yield Budget(shallowest_flops_max=s[0])
        yield Budget(shallowest_flops_max=s[1], flops_max=f[0])
        yield Budget(shallowest_flops_max=s[1], flops_min=f[0])
        yield Budget(shallowest_flops_max=s[1], params_min=p[0], params_max=p[1])
        yield Budget(shallowest_flops_max=s[1], flops_max=f[1], params_max=p[1])
        yield Budget(shallowest_flops_max=s[1], flops_min=f[0], flops_max=f[1], params_min=p[0], params_max=p[1])
        yield Budget(shallowest_flops_max=s[0], flops_min=f[0], flops_max=f[0], params_max=p[1])


@pytest.mark.slow
def test_count_members_and_draws_are_those_of_brute_force(case: tuple[SearchSpace, Costs]) -> None:
    space, costs = case
    for budget in budgets(costs, 2):
        expected = {arch_id for arch_id, cost in costs.items() if budget.allows(*cost)}
        feasible = FeasibleSet(space, budget)
        assert (feasible.count, feasible.count_is_exact) == (len(expected), True), budget
        assert (feasible.is_empty, feasible.has_members) == (not expected, bool(expected)), budget
        assert sorted(arch.arch_id for arch in feasible) == sorted(expected), budget
        if expected:
            drawn = feasible.sample_many(np.random.default_rng(0), 20)
            assert {arch.arch_id for arch in drawn} <= expected, budget
            assert feasible.probability(drawn[0]) == 1 / len(expected)
        else:
            with pytest.raises(BudgetError, match="FLOPs at the shallowest depth"):
                feasible.check()


def test_the_nearest_network_has_the_least_excess(case: tuple[SearchSpace, Costs]) -> None:
    space, costs = case
    cheapest = [min(column) for column in zip(*costs.values(), strict=True)]
    impossible = [
        Budget(shallowest_flops_max=cheapest[2] - 1),
        Budget(shallowest_flops_max=cheapest[2] // 2, flops_max=cheapest[0], params_max=cheapest[1] - 1),
        Budget(shallowest_flops_max=cheapest[2] - 1, flops_min=max(cost[0] for cost in costs.values()) + 1),
    ]
    for budget in [*budgets(costs, 1), *impossible]:
        near = FeasibleSet(space, budget).nearest()
        assert costs[near.arch.arch_id] == near[1:]
        assert budget.excess(*near[1:]) == min(budget.excess(*cost) for cost in costs.values()), budget


EVERY = EveryNetwork(MIDDLING)
SHALLOWEST: IntArray = choice_costs_of(MIDDLING).shallowest(EVERY.choices, EVERY.flops)
TIGHT = Budget(flops_max=150_000, params_max=8_000, shallowest_flops_max=125_000)


def inside(budget: Budget) -> np.ndarray:  # type: ignore[type-arg]
    triples = zip(EVERY.flops.tolist(), EVERY.params.tolist(), SHALLOWEST.tolist(), strict=True)
    return np.array([budget.allows(*costs) for costs in triples])


def test_costs_of_choices_are_those_of_networks() -> None:
    chain = with_shallowest(chain_of(MIDDLING), MIDDLING)
    assert chain.cost_names == ("flops", "params", "shallowest_flops")
    assert (chain.costs(EVERY.choices) == np.column_stack([EVERY.flops, EVERY.params, SHALLOWEST])).all()
    for row in np.random.default_rng(0).choice(EVERY.choices, 50).tolist():
        arch = choice_costs_of(MIDDLING).network(MIDDLING, tuple(row))
        assert bounded_costs(arch) == choice_costs_of(MIDDLING).bounded(tuple(row)) == three(arch)


NARROW = Budget(flops_min=122_000, flops_max=150_000, params_max=7_900, shallowest_flops_max=115_000)


@pytest.mark.parametrize(("budget", "slots"), [(TIGHT, (2, 1)), (NARROW, (0, 1))])
def test_draws_within_three_bounds_are_uniform(budget: Budget, slots: tuple[int, int]) -> None:
    members, feasible = inside(budget), FeasibleSet(MIDDLING, budget)
    assert feasible._slots == slots
    assert feasible.count == members.sum() < feasible._cumulated_weights[-1], "or two bounds are enough"
    num_draws = 50 * feasible.count
    times = EVERY.times_drawn(feasible.sample_choices(np.random.default_rng(1), num_draws))
    assert times[~members].sum() == 0
    assert abs(chi_square_deviation(times[members], np.full(feasible.count, 50.0))) < 4


@pytest.mark.slow
def test_strata_hold_the_networks_of_their_part() -> None:
    sampler = StratifiedSampler(MIDDLING, TIGHT, num_strata=6)
    counts = [int(inside(stratum.budget).sum()) for stratum in sampler.strata]
    assert [stratum.count for stratum in sampler.strata] == counts
    assert sum(counts) == inside(TIGHT).sum()
    assert all(count > 0 for count in counts)
    for before, after in pairwise(sampler.strata):
        assert (before.budget.flops_max or 0) < (after.budget.flops_min or 0)


def test_groups_of_cells_that_fit_into_memory_do_not_change_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(three_costs, "_MAX_BINS", 50)
    monkeypatch.setattr(three_costs, "_CHUNK", 100)
    for budget in (TIGHT, NARROW):
        assert count_inside(choice_costs_of(MIDDLING), budget, 10**7) == inside(budget).sum()


def test_networks_of_equal_costs_all_count_in_front_of_the_last_two_stages() -> None:
    """Whether tokens are permuted costs nothing, so that every prefix stands for several networks."""
    permuted = {"groups": [[2, 2]], "recursions": [2], "permute": [True, False]}
    space = space_of({**permuted, "width": [8, 12]}, permuted, {"width": [12, 16], "heads": [4]}, THIRD)
    every = EveryNetwork(space)
    costs = np.column_stack([every.flops, every.params, choice_costs_of(space).shallowest(every.choices, every.flops)])
    flops, params, shallowest = np.quantile(costs, 0.7, axis=0).astype(int).tolist()
    budget = Budget(flops_max=flops, params_max=params, shallowest_flops_max=shallowest)
    expected = sum(budget.allows(*one) for one in costs.tolist())
    assert len(np.unique(costs, axis=0)) < len(costs)
    assert 0 < expected < len(costs)
    assert count_inside(choice_costs_of(space), budget, 10**7) == expected


def test_counts_of_spaces_that_are_too_rich_are_estimates() -> None:
    assert count_inside(choice_costs_of(MIDDLING), TIGHT, max_pairs=1000) is None
    feasible = FeasibleSet(MIDDLING, TIGHT, max_pairs=1000)
    assert not feasible.count_is_exact
    assert feasible.count == pytest.approx(inside(TIGHT).sum(), rel=0.2)
    assert EVERY.times_drawn(feasible.sample_choices(np.random.default_rng(0), 100))[~inside(TIGHT)].sum() == 0


def test_a_budget_that_bounds_the_shallowest_depth_must_be_told_it() -> None:
    with pytest.raises(ValueError, match="must be given"):
        TIGHT.allows(1, 1)
    assert Budget(flops_max=1).allows(1, 1)
    assert "shallowest_flops_max" not in Budget(flops_max=1).to_dict()
    assert Budget(**TIGHT.to_dict()) == TIGHT
    assert TIGHT.describe().endswith("FLOPs at the shallowest depth at most 125K")


def test_an_empty_set_says_what_the_nearest_network_needs_at_its_shallowest() -> None:
    feasible = FeasibleSet(SearchSpace.load("smoke"), Budget(shallowest_flops_max=10))
    with pytest.raises(BudgetError, match=r"and .* shallowest-depth FLOPs .*; raise the shallow"):
        feasible.check()
