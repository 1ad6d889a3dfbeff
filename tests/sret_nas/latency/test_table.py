"""Predicted latency: the parts of a space, what a network's add up to, and how its profile is fitted."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from sret_nas import ArchConfig, SearchSpace, UserError, cost_of
from sret_nas.latency.fit import fit_coefficients, quality_of
from sret_nas.latency.profile import FitQuality, LatencyProfile, Part
from sret_nas.latency.table import LatencyFeatures, LatencyTable, parts_of
from sret_nas.nn.network import SReT
from sret_nas.nn.part_timing import AttentionPart
from sret_nas.space.chain import chain_of
from sret_nas.space.choice_costs import choice_costs_of
from tests.counted_spaces import VARIED, space_of
from tests.latency_profiles import COEFFICIENTS, SMALL, pretended_profile, pretended_time
from tests.sret_nas.latency.small_networks import LATENCY, NETWORKS, TABLE, parts_in_order

torch.set_num_threads(1)


def test_variants_of_the_whole_network_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"^test: latency is predicted for .*, got stem norm: layer, residual: branch, head: "
    ):
        parts_of(VARIED)
    listed = space_of({}, residual=["plain", "path"], head=["average", "class_token"], stem={"kind": ["conv", "patch"]})
    with pytest.raises(
        UserError,
        match="got stem kind: conv patch, residual: plain path, head: average class_token: keep only "
        "the paper's in the space, or leave latency out, bound FLOPs or parameters, and measure what is found with",
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


def test_only_widths_that_meet_are_pooled() -> None:
    """One pool per pair of widths, at the side before it."""
    pools = {part for part in parts_of(SMALL) if part.kind == "pool"}
    assert pools == {Part("pool", 4, (first, second)) for first in (8, 12) for second in (8, 16)}
    assert [side for side, _ in pairwise(NETWORKS[0].resolutions)] == [4]


def test_smoke_s_parts_are_counted() -> None:
    """By hand: one stem; per stage and width, attentions by number of groups, an MLP, an NLL where there is one."""
    parts = parts_of(SearchSpace.load("smoke"))
    assert Counter(part.kind for part in parts) == {"stem": 1, "attention": 6, "mlp": 6, "pool": 3, "head": 2}


@pytest.mark.parametrize("time", [1e308, -1e308, float("nan")])
def test_a_part_that_takes_years_is_refused(time: float) -> None:
    """In an edited file, before sums of such times overflow."""
    parts = tuple((part, time) for part, _ in TABLE.profile.parts)
    with pytest.raises(UserError, match=r"^the latency profile of .* predicts years: it was edited, delete it$"):
        LatencyTable(SMALL, TABLE.profile.model_copy(update={"parts": parts}))
