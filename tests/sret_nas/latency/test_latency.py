"""Predicted latency: how it is written, what it adds up to, and which networks it lets through."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kendalltau

from sret_nas import ArchConfig, Budget, BudgetError, SearchSpace, UserError, cost_of
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.latency.cost_grid import NUM_CELLS, CostGrid, least_point, members
from sret_nas.latency.fast_set import LatencySet
from sret_nas.latency.fit import fit_coefficients, quality_of
from sret_nas.latency.profile import FitQuality, LatencyProfile, Part
from sret_nas.latency.table import LatencyFeatures, LatencyTable, parts_of
from sret_nas.nn.layers import Block
from sret_nas.nn.network import SReT
from sret_nas.nn.part_timing import AttentionPart, HeadPart, MLPPart, PoolPart, StemPart, time_network, time_part
from sret_nas.quantities import format_latency, parse_latency
from sret_nas.space.chain import chain_of
from sret_nas.space.choice_costs import choice_costs_of
from tests.counted_spaces import VARIED, space_of
from tests.latency_profiles import COEFFICIENTS, SMALL, pretended_profile, pretended_time

torch.set_num_threads(1)

CPU = torch.device("cpu")
TABLE = LatencyTable(SMALL, pretended_profile(SMALL))
NETWORKS = list(FeasibleSet(SMALL, Budget()))
LATENCY = {arch.arch_id: TABLE.latency(arch) for arch in NETWORKS}
MEDIAN = sorted(LATENCY.values())[len(LATENCY) // 2]


def test_variants_of_the_whole_network_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"^test: latency is predicted for .*, got stem norm: layer, residual: branch, head: "
    ):
        parts_of(VARIED)
    listed = space_of({}, residual=["plain", "path"], head=["average", "class_token"], stem={"kind": ["conv", "patch"]})
    with pytest.raises(
        UserError, match="got stem kind: conv patch, residual: plain path, head: average class_token: search by FLOPs"
    ):
        parts_of(listed)


def test_a_permutation_that_is_not_undone_is_a_part_of_its_own() -> None:
    first = {"width": [8], "recursions": [2], "groups": [[2, 4], [1]], "permute": [True, False]}
    space = space_of({**first, "inverse": [True, False], "permute_single": [True]})
    attention = [part for part in parts_of(space) if part.kind == "attention"]
    assert sorted(part.sizes for part in attention) == [
        (8, 2, 1, 0), (8, 2, 1, 2), (8, 2, 2, 0), (8, 2, 4, 0), (8, 2, 4, 1), (8, 2, 4, 2),
    ]  # fmt: skip
    tokens = torch.randn(2, 16, 8)
    for permuted in (1, 2):
        module = AttentionPart(4, 8, 2, 4, permuted).eval()
        permutation = module.get_buffer("permutation")
        expected = module.block.attend(tokens, 4, permutation, 0.0, permuted == 1)
        assert torch.equal(module(tokens), expected)


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("20ms", 20_000), ("0.5s", 500_000), ("800us", 800), ("800 µs", 800), (" 1.5 MS ", 1_500), (".25s", 250_000)],
)
def test_times_are_read_with_their_unit(text: str, microseconds: int) -> None:
    assert parse_latency(text) == microseconds


@pytest.mark.parametrize("text", ["20", "ms", "", "20 m", "-3ms", "1e3ms", "20ms!", "nan s", "٣ms"])
def test_what_is_no_time_is_explained(text: str) -> None:
    with pytest.raises(UserError, match=r"must be a time with its unit, such as 20ms, 0\.5s or 800us, got"):
        parse_latency(text)


@pytest.mark.parametrize("text", ["0ms", "0.1us", "2000000s"])
def test_times_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="must lie between 1us and 3600s, got"):
        parse_latency(text)


@given(st.integers(1, 3_600_000_000))
def test_times_are_written_as_they_are_read(microseconds: int) -> None:
    assert parse_latency(format_latency(microseconds, digits=12)) == microseconds


def parts_in_order(arch: ArchConfig) -> list[Part]:
    """Returns the parts of one pass, application by application, as the network runs them."""
    stem = (arch.channels, arch.stem.width, arch.stages[0].width, *arch.stem.strides)
    parts = [Part("stem", arch.image_size, stem)]
    for number, (stage, side) in enumerate(zip(arch.stages, arch.resolutions, strict=True)):
        if number > 0:
            before = arch.stages[number - 1].width
            parts.append(Part("pool", arch.resolutions[number - 1], (before, stage.width)))
        for _, recursion in stage.applications():
            groups = stage.groups[recursion]
            is_permuted = recursion > 0 and 1 < groups < side * side
            parts.append(Part("attention", side, (stage.width, stage.heads, groups, int(is_permuted))))
            parts.append(Part("mlp", side, (stage.width, stage.mlp_hidden)))
            if stage.nll_after(recursion) is not None:
                parts.append(Part("mlp", side, (stage.width, stage.nll_hidden)))
    parts.append(Part("head", arch.resolutions[-1], (arch.stages[-1].width, arch.classes)))
    return parts


def test_the_space_s_parts_are_those_of_its_networks() -> None:
    assert set(parts_of(SMALL)) == {part for arch in NETWORKS for part in parts_in_order(arch)}
    assert len(set(parts_of(SMALL))) == len(parts_of(SMALL))


def test_a_prediction_is_the_weighted_sum_over_what_the_network_runs() -> None:
    """Computes the features part by part along one pass, and from the built network's parameters."""
    assert len(NETWORKS) == 2 * 64 * 8
    for arch in NETWORKS[::37]:
        parts = parts_in_order(arch)
        applications = sum(part.kind == "mlp" for part in parts)  # each block has one, and an NLL is one
        sums = (sum(map(pretended_time, parts)), sum(p.numel() for p in SReT(arch).parameters()), applications, 1)
        expected = sum(weight * amount for weight, amount in zip(COEFFICIENTS, sums, strict=True))
        # each of two stages and one link is rounded to a microsecond
        assert abs(TABLE.latency(arch) - expected) <= 1.5 + 1e-6
        assert LatencyFeatures(SMALL, dict(TABLE.profile.parts)).of_network(arch) == pytest.approx(sums)


def test_the_chain_has_latency_beside_the_exact_costs() -> None:
    chain, costs = TABLE.chain, choice_costs_of(SMALL)
    assert chain.cost_names == ("flops", "params", "latency")
    points = [costs.choices(SMALL, arch) for arch in NETWORKS]
    expected = [(cost_of(arch).flops, cost_of(arch).params, LATENCY[arch.arch_id]) for arch in NETWORKS]
    assert chain.costs(points).tolist() == [list(row) for row in expected]
    assert chain_of(SMALL).cost_names == ("flops", "params")


def test_another_space_s_network_has_no_prediction() -> None:
    with pytest.raises(UserError, match="is not in this search space"):
        TABLE.latency(ArchConfig(stages=NETWORKS[0].stages, image_size=33, classes=10))


def test_the_fit_finds_the_coefficients_and_none_below_zero() -> None:
    rng = np.random.default_rng(0)
    features = rng.uniform(1, 10, (30, 4)) * (1e4, 1e6, 10, 0) + (0, 0, 0, 1)
    assert fit_coefficients(features, features @ [1.5, 0.002, 30, 500]) == pytest.approx([1.5, 0.002, 30, 500])
    found = fit_coefficients(features, features @ [1.5, 0.002, -50, 500])
    assert found.min() == found[2] == 0
    assert found[0] == pytest.approx(1.5, rel=0.5)


def test_accuracy_in_numbers() -> None:
    measured = np.array([1.0, 2.0, 4.0, 8.0])
    accuracy = quality_of(np.array([1.1, 2.0, 3.0, 8.0]), measured, [1, 3, 2, 4])
    assert accuracy.num_networks == 4
    assert accuracy.median_error == pytest.approx((0.0 + 0.1) / 2)
    assert accuracy.tau == 1.0
    assert accuracy.flops_tau == pytest.approx((5 - 1) / 6)  # one of six pairs is the wrong way round
    assert quality_of(np.ones(4), measured, [2, 2, 2, 2]).tau == 0.0  # nothing told apart
    assert kendalltau([1, 3, 2, 4], measured).statistic == pytest.approx(accuracy.flops_tau)


@pytest.mark.parametrize(
    ("num_networks", "expected"),
    [
        (1, "2.1 % median error on 1 network that was held out"),
        (4, "2.1 % median error on 4 networks that were held out"),
        (5, "2.1 % median error, tau 0.00 (FLOPs: 0.69) on 5 networks that were held out"),
    ],
)
def test_a_rank_correlation_of_very_few_networks_is_not_shown(num_networks: int, expected: str) -> None:
    """The tau of a single network would be 0.00 however good the predictions are."""
    accuracy = FitQuality(num_networks=num_networks, median_error=0.0213, tau=0.0, flops_tau=0.69)
    assert accuracy.describe() == expected


def test_a_profile_travels_as_json_and_is_known_by_its_numbers() -> None:
    profile = pretended_profile(SMALL)
    again = LatencyProfile.model_validate_json(profile.model_dump_json())
    assert again == profile
    assert LatencyTable(SMALL, again).latency(NETWORKS[5]) == LATENCY[NETWORKS[5].arch_id]
    (part, microseconds), *others = profile.parts
    other = profile.model_copy(update={"parts": ((part, microseconds + 0.01), *others)})
    later = profile.model_copy(update={"seconds": 9.0})
    assert other.digest != profile.digest == later.digest


# --- which networks are fast enough ---


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


# --- what is timed ---


def assembled(network: SReT) -> list[torch.nn.Module]:
    """Returns the network's parts in order, with the network's own layers in them."""
    modules: list[torch.nn.Module] = []
    queue: list[torch.nn.Module] = []
    for stage in network.stages:
        for block, recursion in stage.config.applications():  # type: ignore[union-attr,operator]
            queue.append(stage.blocks[block])  # type: ignore[index,arg-type]
            nll = stage.config.nll_after(recursion)  # type: ignore[union-attr,operator]
            queue += [] if nll is None else [stage.nlls[block][nll]]  # type: ignore[index,list-item]
    pools = iter(network.pools)
    for part in parts_in_order(network.arch):
        if part.kind == "stem":
            stem = StemPart(part.side, *part.sizes)
            stem.stem, stem.pos_embed = network.stem, network.pos_embed
            modules.append(stem)
        elif part.kind == "attention":
            block = queue[0]
            assert isinstance(block, Block)
            attention = AttentionPart(part.side, *part.sizes)
            attention.block = block
            modules.append(attention)
        elif part.kind == "mlp":
            owner, mlp = queue.pop(0), MLPPart(part.side, *part.sizes)
            is_block = isinstance(owner, Block)
            mlp.norm, mlp.mlp = owner.norm2 if is_block else owner.norm, owner.mlp  # type: ignore[assignment]
            mlp.coefficients = torch.nn.Parameter(owner.coefficients[-2:].detach())  # type: ignore[index]
            modules.append(mlp)
        elif part.kind == "pool":
            pool = PoolPart(part.side, *part.sizes)
            pool.conv = next(pools)  # type: ignore[assignment]
            modules.append(pool)
        else:
            head = HeadPart(part.side, *part.sizes)
            head.norm, head.head = network.norm, network.head
            modules.append(head)
    return modules


@pytest.mark.parametrize("number", range(0, 1024, 150))
def test_the_parts_in_a_row_are_the_network(number: int) -> None:
    """Nothing of a pass is left out, and nothing is timed twice. Attention's permutation is the network's own."""
    network = SReT(NETWORKS[number]).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    permutations = [
        network.stages[stage].get_buffer(f"permutation_{block}_{recursion}")
        for stage, block, recursion in network.permuted_applications()
    ]
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        values, parts = images, assembled(network)
        for part in parts:
            if isinstance(part, AttentionPart) and part.permuted:
                part.permutation = permutations.pop(0)
            values = part.eval()(values)
        torch.testing.assert_close(values, network(images))
    assert permutations == []


def test_every_part_of_a_space_can_be_timed_and_nothing_random_is_touched() -> None:
    generator = torch.get_rng_state()
    for part in parts_of(SMALL):
        seconds = time_part(part, 2, CPU, samples=2, passes=2)
        assert len(seconds) == 2
        assert 0 < min(seconds) < 10
    assert len(time_network(NETWORKS[0], 1, CPU, samples=3)) == 3
    assert torch.equal(torch.get_rng_state(), generator)


def test_only_widths_that_meet_are_pooled() -> None:
    """One pool per pair of widths, at the side before it."""
    pools = {part for part in parts_of(SMALL) if part.kind == "pool"}
    assert pools == {Part("pool", 4, (first, second)) for first in (8, 12) for second in (8, 16)}
    assert [side for side, _ in pairwise(NETWORKS[0].resolutions)] == [4]


def test_smoke_s_parts_are_counted() -> None:
    """By hand: one stem; per stage and width, attentions by number of groups, an MLP, an NLL where there is one."""
    parts = parts_of(SearchSpace.load("smoke"))
    assert Counter(part.kind for part in parts) == {"stem": 1, "attention": 6, "mlp": 6, "pool": 3, "head": 2}
