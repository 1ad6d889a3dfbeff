"""The networks inside a budget that are fast enough: which they are, draws of them, and what is said of none."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from sret_nas import ArchConfig, Budget, BudgetError, cost_of
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.latency.cost_grid import NUM_CELLS, CostGrid, least_point, members
from sret_nas.latency.fast_set import LatencySet
from sret_nas.latency.table import LatencyTable
from sret_nas.quantities import format_latency, parse_latency
from sret_nas.space.choice_costs import choice_costs_of
from tests.latency_profiles import COEFFICIENTS, SMALL
from tests.sret_nas.latency.small_networks import LATENCY, NETWORKS, TABLE

MEDIAN = sorted(LATENCY.values())[len(LATENCY) // 2]


def test_the_fastest_point_and_the_members_of_a_window_are_those_of_brute_force() -> None:
    chain = TABLE.chain
    points = [choice_costs_of(SMALL).choices(SMALL, arch) for arch in NETWORKS]
    costs = chain.costs(points)
    least = least_point(chain, 2)
    assert chain.costs([least])[0, 2] == costs[:, 2].min()
    lows, highs = np.quantile(costs, 0.2, axis=0), np.quantile(costs, 0.7, axis=0)
    inside = ((costs >= lows) & (costs <= highs)).all(axis=1)
    assert 20 < inside.sum() < 1000
    found = list(members(chain, lows.tolist(), highs.tolist()))
    assert sorted(found) == sorted(point for point, is_inside in zip(points, inside, strict=True) if is_inside)
    assert sorted(members(chain, [0, 0, 0], [math.inf] * 3)) == sorted(points)
    assert list(members(chain, [0, 0, 0], [math.inf, math.inf, int(costs[:, 2].min()) - 1])) == []


def assert_uniform(drawn: list[str], expected: set[str]) -> None:
    assert set(drawn) <= expected
    counts = Counter(drawn)
    assert chisquare([counts[name] for name in sorted(expected)]).pvalue > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("slowness", [1, 300], ids=["a cell is a microsecond", "cells are rounded"])
def test_draws_from_the_grid_are_uniform_over_a_window(slowness: int) -> None:
    coefficients = tuple(slowness * value for value in COEFFICIENTS)
    table = LatencyTable(SMALL, TABLE.profile.model_copy(update={"coefficients": coefficients}))
    latencies = {arch.arch_id: table.latency(arch) for arch in NETWORKS}
    grid, costs = CostGrid(table.chain, 2, max(latencies.values())), choice_costs_of(SMALL)
    assert (max(latencies.values()) > 10 * NUM_CELLS) is (slowness > 1)
    low, high = (int(edge) for edge in np.quantile(list(latencies.values()), (0.3, 0.4)))
    inside = {name for name, latency in latencies.items() if low <= latency <= high}
    assert len(inside) <= grid.count(low, high) < 1.2 * len(inside)
    rng = np.random.default_rng(1)
    draws = [grid.draw(rng, low, high) for _ in range(20 * len(inside))]
    kept = [costs.network(SMALL, point).arch_id for point in draws if point is not None]
    assert len(kept) > 0.8 * len(draws)
    assert set(kept) == inside  # each is expected some 20 times, also those at the window's edges
    assert_uniform(kept, inside)
    assert grid.count(1, min(latencies.values()) // 2) == 0
    with pytest.raises(ValueError, match="nothing to draw from"):
        grid.draw(rng, 1, min(latencies.values()) // 2)


FLOPS = sorted(cost_of(arch).flops for arch in NETWORKS)
BUDGETS = {
    "latency alone": (Budget(), 0.5, True),
    "few fast ones, nearly all cheap enough": (Budget(flops_max=FLOPS[-10]), 0.025, True),
    "few cheap ones, nearly all fast enough": (Budget(flops_max=FLOPS[len(FLOPS) // 10]), 0.9, False),
}


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "share", "by_latency"), BUDGETS.values(), ids=BUDGETS.keys())
def test_draws_are_uniform_over_what_is_inside_the_budget_and_fast_enough(
    budget: Budget, share: float, by_latency: bool
) -> None:
    most = sorted(LATENCY.values())[int(share * len(LATENCY))]
    networks = LatencySet(SMALL, budget, TABLE, most)
    networks.check()
    expected = {
        arch.arch_id
        for arch in NETWORKS
        if budget.allows(cost_of(arch).flops, cost_of(arch).params) and LATENCY[arch.arch_id] <= most
    }
    assert 20 < len(expected) < 1000
    assert sorted(arch.arch_id for arch in networks) == sorted(expected)
    rng = np.random.default_rng(2)
    assert_uniform([networks.sample(rng).arch_id for _ in range(8 * len(expected))], expected)
    assert (networks._proposal == "fast") is by_latency


def test_without_a_bound_draws_are_the_feasible_set_s() -> None:
    budget = Budget(flops_max=FLOPS[300])
    networks = LatencySet(SMALL, budget, TABLE, None)
    networks.check()
    first, second = np.random.default_rng(3), np.random.default_rng(3)
    assert networks.sample(first) == FeasibleSet(SMALL, budget).sample(second)
    assert sum(1 for _ in networks) == FeasibleSet(SMALL, budget).count


@pytest.mark.parametrize("by", ["latency", "flops", "params"])
@pytest.mark.parametrize("most", [MEDIAN, None])
def test_stratified_draws_reach_from_one_end_to_the_other(by: str, most: int | None) -> None:
    networks = LatencySet(SMALL, Budget(flops_max=FLOPS[800]), TABLE, most)
    drawn = networks.sample_stratified(np.random.default_rng(0), 48, by)
    assert len(drawn) == 48
    assert all(cost_of(arch).flops <= FLOPS[800] for arch in drawn)
    assert max(LATENCY[arch.arch_id] for arch in drawn) <= (most or math.inf)

    def cost(arch: ArchConfig) -> int:
        return LATENCY[arch.arch_id] if by == "latency" else int(getattr(cost_of(arch), by))

    logs, possible = np.log([cost(arch) for arch in drawn]), np.log([cost(arch) for arch in networks])
    spans = [np.histogram(values, 4, (possible.min(), possible.max()))[0] / len(values) for values in (logs, possible)]
    # A uniform draw leaves some quarter of the range nearly empty; these fill each.
    assert spans[0].min() >= 0.1
    assert spans[0].min() > spans[1].min()


def test_an_impossible_latency_names_the_fastest_network() -> None:
    least = min(LATENCY.values())
    fastest = next(arch for arch in NETWORKS if LATENCY[arch.arch_id] == least)
    with pytest.raises(BudgetError) as caught:
        LatencySet(SMALL, Budget(), TABLE, least - 1).check()
    assert f"the fastest, {fastest.arch_id}, has {format_latency(least)}" in str(caught.value)
    assert f"raise the latency budget to at least {format_latency(least)}" in str(caught.value)
    LatencySet(SMALL, Budget(), TABLE, least).check()


def test_budgets_that_exclude_each_other_are_refused_together() -> None:
    slowest = max(NETWORKS, key=lambda arch: cost_of(arch).flops)
    budget = Budget(flops_min=cost_of(slowest).flops)
    networks = LatencySet(SMALL, budget, TABLE, min(LATENCY.values()))
    with pytest.raises(BudgetError, match=r"draws found no network of small .* FLOPs at least .* the fastest, "):
        networks.check()
    assert list(networks) == []


def test_the_quoted_latency_is_enough() -> None:
    """Rounded up where it has more digits than are shown."""
    profile = TABLE.profile.model_copy(update={"coefficients": (123.456, 0.0, 0.0, 0.0)})
    table = LatencyTable(SMALL, profile)
    with pytest.raises(BudgetError) as caught:
        LatencySet(SMALL, Budget(), table, 1000).check()
    quoted = str(caught.value).rpartition("raise the latency budget to at least ")[2].partition(",")[0]
    assert parse_latency(quoted) % 10 == 0
    LatencySet(SMALL, Budget(), table, parse_latency(quoted)).check()
