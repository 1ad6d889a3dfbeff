"""The networks of a step: extremes of the budget, and draws that depend on the seed and the step alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.errors import BudgetError
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.feasible.stratified import StratifiedSampler
from tests.trials.supernet.tiny_supernet import SPACE, config
from trials.supernet.networks import StepNetworks, extreme

EVERY = [(cost_of(arch).flops, cost_of(arch).params) for arch in FeasibleSet(SPACE, Budget())]
FLOPS, PARAMS = (sorted({costs[at] for costs in EVERY}) for at in (0, 1))


def networks(seed: int = 0, budget: Budget | None = None, **options: object) -> StepNetworks:
    return StepNetworks(SPACE, budget or Budget(), config(**options), lambda arch: arch, seed)


def flops(arch: ArchConfig) -> int:
    return cost_of(arch).flops


@st.composite
def budgets(draw: st.DrawFn) -> Budget:
    """Draws budgets with bounds at and beside networks' costs, some of which exclude the extremes of the space."""

    def bounds(costs: list[int]) -> tuple[int | None, int | None]:
        shift = st.integers(-1, 1)
        ends = [draw(st.none() | st.builds(int.__add__, st.sampled_from(costs), shift)) for _ in range(2)]
        low, high = ends if None in ends else sorted(end for end in ends if end is not None)
        return low, high

    (flops_min, flops_max), (params_min, params_max) = bounds(FLOPS), bounds(PARAMS)
    return Budget(flops_min=flops_min, flops_max=flops_max, params_min=params_min, params_max=params_max)


@pytest.mark.slow
@given(budgets())
@settings(max_examples=30)
def test_the_ends_of_a_budget_are_those_of_all_its_networks(budget: Budget) -> None:
    inside = [costs for costs in EVERY if budget.allows(*costs)]
    if not inside:
        with pytest.raises(BudgetError, match="no network of tiny"):
            extreme(SPACE, budget, "most_expensive")
        return
    for end, most in (("most_expensive", max), ("cheapest", min)):
        cost = cost_of(extreme(SPACE, budget, end))  # type: ignore[arg-type]
        assert cost.flops == most(costs[0] for costs in inside)
        assert budget.allows(cost.flops, cost.params)


def test_a_sandwich_is_the_largest_the_smallest_and_random_ones() -> None:
    drawn = networks(step_rule="sandwich", random_networks=3)
    assert flops(drawn.largest) == FLOPS[-1]
    assert flops(drawn.smallest) == FLOPS[0]
    for step in (0, 1, 90):  # the last beyond what is drawn at once
        archs = drawn.of_step(step, 100)
        assert archs[:2] == [drawn.largest, drawn.smallest]
        assert archs[2:] == [drawn.random(3 * step + number) for number in range(3)]


def test_alternation_takes_turns_and_single_draws_in_every_step() -> None:
    turns = networks(step_rule="alternate")
    archs = [arch for step in range(8) for arch in turns.of_step(step, 8)]
    assert archs == [
        turns.largest, turns.random(0), turns.smallest, turns.random(1),
        turns.largest, turns.random(2), turns.smallest, turns.random(3),
    ]  # fmt: skip
    single = networks(step_rule="single")
    assert [single.of_step(step, 8) for step in range(8)] == [[single.random(step)] for step in range(8)]


@pytest.mark.parametrize("draws", ["stratified", "uniform"])
def test_seed_and_step_alone_decide(draws: str) -> None:
    """In any order and from any instance. Other seeds draw others. All are inside the budget."""
    budget = Budget(flops_max=FLOPS[len(FLOPS) // 2])
    options = {"subnet_sampling": draws, "depth_schedule": "random", "budget": budget}
    steps = (0, 1, 200, 3, 200)
    first = {step: networks(**options).of_step(step, 1000) for step in steps}  # type: ignore[arg-type]
    again = networks(**options)  # type: ignore[arg-type]
    assert {step: again.of_step(step, 1000) for step in reversed(steps)} == first
    other = networks(seed=1, **options)  # type: ignore[arg-type]
    assert [other.random(number) for number in range(8)] != [again.random(number) for number in range(8)]
    assert all(flops(again.random(number)) <= FLOPS[len(FLOPS) // 2] for number in range(300))
    assert flops(again.largest) == FLOPS[len(FLOPS) // 2]


def test_stratified_draws_are_spread_over_the_strata_and_uniform_ones_are_not() -> None:
    """Of 256 draws, strata have equal numbers, give or take one. Uniform draws follow the sizes of the strata."""
    strata = StratifiedSampler(SPACE, Budget()).strata
    edges = [stratum.budget.flops_min for stratum in strata[1:]]
    shares = np.array([stratum.count for stratum in strata]) / SPACE.num_networks
    counts = {}
    for draws in ("stratified", "uniform"):
        drawn = networks(subnet_sampling=draws)
        places = np.searchsorted(edges, [flops(drawn.random(number)) for number in range(256)], side="right")
        counts[draws] = np.bincount(places, minlength=len(strata))
    assert np.ptp(counts["stratified"]) <= 1
    deviations = (counts["uniform"] - 256 * shares) / np.sqrt(256 * shares * (1 - shares))
    assert abs(deviations).max() < 5
    assert np.ptp(counts["uniform"]) > 8  # or this space could not tell the two apart


def test_random_networks_are_cut_to_the_depths_of_the_schedule_and_the_ends_are_not() -> None:
    """The first step of `growing` runs one recursion and the last runs all. `joint` runs every depth as a subnet."""
    growing, full = networks(depth_schedule="growing"), networks()
    for step in range(4):
        archs = growing.of_step(step, 1000)
        assert archs[:2] == [full.largest, full.smallest]
        assert [arch.max_recursions for arch in archs[2:]] == [1, 1]
        assert archs[2:] == [arch.with_max_recursions(1) for arch in full.of_step(step, 1000)[2:]]
    assert growing.of_step(999, 1000) == full.of_step(999, 1000)

    joint = networks(depth_schedule="joint", step_rule="single")
    for step in range(8):
        whole = joint.random(step)
        expected = [whole.with_max_recursions(depth) for depth in range(1, whole.max_recursions + 1)]
        assert joint.of_step(step, 8) == expected
    drawn = networks(depth_schedule="random", step_rule="single")
    depths = {(drawn.random(step).max_recursions, drawn.of_step(step, 100)[0].max_recursions) for step in range(100)}
    assert depths >= set(
        itertools.chain.from_iterable(((most, depth) for depth in range(1, most + 1)) for most in (2, 3))
    )


def test_a_budget_that_nothing_meets_is_refused() -> None:
    with pytest.raises(BudgetError, match="the nearest"):
        networks(budget=Budget(flops_max=10))
    with pytest.raises(BudgetError, match="the nearest"):
        networks(budget=Budget(flops_max=10), subnet_sampling="uniform")
