"""Draws with all widths alike: their shares, their limits, and what they are drawn from."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.errors import BudgetError
from sret_nas.feasible.balanced import (
    MAX_PARTS,
    MAX_PARTS_OF_MANY_STAGES,
    MAX_WEIGHT,
    BalancedSampler,
    _balanced,
    _width_groups,
)
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.space.choices import StageChoices
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import FOUR_STAGES, HEADS, MIDDLING, RESIDUALS, STEMS, space_of

NUMBER = 2000


def budget_of(space: SearchSpace, share: float) -> Budget:
    """Returns a budget that a share of stratified draws meets."""
    drawn = StratifiedSampler(space, Budget()).sample_many(np.random.default_rng(0), 1000)
    return Budget(flops_max=int(np.quantile([cost_of(arch).flops for arch in drawn], share)))


HALF = budget_of(MIDDLING, 0.5)


def shares(archs: list[ArchConfig], stage: int) -> dict[int, float]:
    counts = Counter(arch.stages[stage].width for arch in archs)
    return {width: counts[width] / len(archs) for width in sorted(counts)}


@pytest.mark.slow
@pytest.mark.parametrize(("space", "share"), [(MIDDLING, 0.2), (FOUR_STAGES, 0.5)], ids=["middling", "four stages"])
def test_under_a_budget_every_width_of_every_stage_is_equally_frequent(space: SearchSpace, share: float) -> None:
    """Where draws that are spread over cost are far from it. And no network breaks the budget."""
    rng, budget = np.random.default_rng(1), budget_of(space, share)
    balanced = BalancedSampler(space, budget).sample_many(rng, NUMBER)
    stratified = StratifiedSampler(space, budget).sample_many(rng, NUMBER)
    assert all(budget.allows(cost.flops, cost.params) for cost in map(cost_of, balanced))
    farthest = 0.0
    for stage in range(len(space.stages)):
        before, after = shares(stratified, stage), shares(balanced, stage)
        assert list(after) == list(before)
        assert list(after.values()) == pytest.approx([1 / len(after)] * len(after), abs=0.05)
        farthest = max(farthest, *(abs(value - 1 / len(before)) for value in before.values()))
    assert farthest > 0.2


@pytest.mark.slow
def test_stems_are_equally_frequent() -> None:
    """Patches are one stem of seven, and each norm two; with widths alone balanced they would stay so."""
    drawn = BalancedSampler(STEMS, Budget()).sample_many(np.random.default_rng(1), NUMBER)
    counts = Counter((arch.stem.kind, arch.stem.norm) for arch in drawn)
    assert len(counts) == 4
    assert [count / NUMBER for count in counts.values()] == pytest.approx([0.25] * 4, abs=0.05)
    assert list(shares(drawn, 0).values()) == pytest.approx([0.5, 0.5], abs=0.05)


def test_residuals_are_equally_frequent_where_plain_ones_alone_may_have_two_blocks() -> None:
    space = space_of(
        {"blocks": [1, 2], "recursions": [1, 2, 3], "groups": [[1], [2, 2], [4, 4]]},
        residual=["plain", "path", "branch"],
    )
    budget = Budget(params_max=max(cost_of(arch).params for arch in FeasibleSet(space, Budget()) if is_plain(arch)))
    for sampler, expected in ((FeasibleSet, 1 / 2), (BalancedSampler, 1 / 3)):
        drawn = sampler(space, budget).sample_many(np.random.default_rng(1), NUMBER)
        assert np.mean([is_plain(arch) for arch in drawn]) == pytest.approx(expected, abs=0.04), sampler


@pytest.mark.slow
def test_heads_are_equally_frequent_where_most_networks_slice_tokens_of_the_last_stage() -> None:
    drawn = FeasibleSet(HEADS, Budget()).sample_many(np.random.default_rng(1), NUMBER)
    assert np.mean([arch.head == "average" for arch in drawn]) > 0.5
    drawn = BalancedSampler(HEADS, Budget()).sample_many(np.random.default_rng(1), NUMBER)
    counts = Counter(arch.head for arch in drawn)
    assert [counts[head] / NUMBER for head in HEADS.head] == pytest.approx([1 / 3] * 3, abs=0.05)


def is_plain(arch: ArchConfig) -> bool:
    return arch.residual == "plain"


def test_factors_have_a_limit_so_that_few_networks_are_not_drawn_over_and_over() -> None:
    """A value that one of forty parts has gets sixteen times the probability of another part, and not half of all."""
    assert _balanced(np.array([[0]] * 39 + [[1]]))[-1] == pytest.approx(MAX_WEIGHT**2 / (39 + MAX_WEIGHT**2))
    assert _balanced(np.array([[0]] * 3 + [[1]])).tolist() == pytest.approx([1 / 6] * 3 + [1 / 2])


def test_wide_stages_are_drawn_often_though_a_budget_allows_hardly_any() -> None:
    """One in 3,500 feasible networks has the widest first stage, so it was hardly trained, and looked worst of all."""
    space = SearchSpace.load("sret_tiny").model_copy(update={"image_size": 32, "classes": 10})
    budget = Budget(flops_max=3_500_000)
    widest = space.model_copy(update={"stages": (with_widths(space.stages[0], (64,)), *space.stages[1:])})
    assert FeasibleSet(widest, budget).count < FeasibleSet(space, budget).count / 3_000
    drawn = BalancedSampler(space, budget).sample_many(np.random.default_rng(0), 400)
    assert all(budget.allows(cost.flops, cost.params) for cost in map(cost_of, drawn))
    assert 0.2 < shares(drawn, 0)[64] < 0.4
    assert min(min(shares(drawn, stage).values()) for stage in range(3)) > 0.15


@pytest.mark.slow
def test_networks_of_equal_widths_are_spread_over_their_costs() -> None:
    """Weights depend on widths alone: inside one combination of them, draws are stratified."""
    balanced = BalancedSampler(MIDDLING, HALF).sample_many(np.random.default_rng(4), 4 * NUMBER)
    compared = 0
    for widths in product((8, 12), (12, 16), (16, 24)):
        same = [cost_of(arch).flops for arch in balanced if tuple(stage.width for stage in arch.stages) == widths]
        if len(same) < 100:
            continue
        part = MIDDLING.model_copy(
            update={"stages": tuple(with_widths(*one) for one in zip(MIDDLING.stages, zip(widths), strict=True))}
        )
        drawn = StratifiedSampler(part, HALF).sample_many(np.random.default_rng(5), len(same))
        expected = [cost_of(arch).flops for arch in drawn]
        assert abs(np.mean(same) - np.mean(expected)) < 4 * np.std(expected) * (2 / len(same)) ** 0.5
        compared += 1
    assert compared >= 4


def with_widths(stage: StageChoices, widths: tuple[int, ...]) -> StageChoices:
    return stage.model_copy(update={"width": widths})


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [([3, 4, 4], 64, [3, 4, 4]), ([10, 10, 10], 64, [4, 4, 4]), ([3, 4, 4, 4], 32, [2, 2, 2, 3]), ([5, 2], 1, [1, 1])],
)
def test_where_there_are_too_many_combinations_neighbours_share_a_part(
    sizes: list[int], most: int, expected: list[int]
) -> None:
    widths = [tuple(range(8 * size, 0, -8)) for size in sizes]
    groups = _width_groups(widths, most)
    assert [len(stage) for stage in groups] == expected
    assert [[width for group in stage for width in group] for stage in groups] == [sorted(stage) for stage in widths]


@pytest.mark.parametrize("space", [MIDDLING, STEMS, RESIDUALS, HEADS], ids=["widths", "stems", "residuals", "heads"])
def test_every_network_is_in_one_part(space: SearchSpace) -> None:
    parts = [FeasibleSet(part, Budget()) for part in BalancedSampler(space, Budget()).parts]
    assert len(parts) > 2
    assert sum(part.count for part in parts) == FeasibleSet(space, Budget()).count
    some = [part.sample(np.random.default_rng(0)) for part in parts]
    assert [sum(part.space.contains(arch) for part in parts) for arch in some] == [1] * len(parts)


def test_with_many_stages_there_are_fewer_parts() -> None:
    widths = {"width": [8, 12, 16]}
    assert len(BalancedSampler(space_of(*[widths] * 3), Budget()).parts) == 27 <= MAX_PARTS
    assert (
        len(BalancedSampler(space_of(*[widths] * 4, image_size=64), Budget()).parts) == 24 <= MAX_PARTS_OF_MANY_STAGES
    )


def test_where_draws_from_a_part_miss_it_others_take_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of rich spaces are estimates. Here no draw from the parts with the narrow first stage hits."""
    sample_many = StratifiedSampler.sample_many

    def missing(self: StratifiedSampler, rng: np.random.Generator, num_draws: int) -> list[ArchConfig]:
        if self.space.stages[0].width == (8,):
            raise BudgetError("draws all missed the budget")
        return sample_many(self, rng, num_draws)

    monkeypatch.setattr(StratifiedSampler, "sample_many", missing)
    drawn = BalancedSampler(MIDDLING, HALF).sample_many(np.random.default_rng(0), 200)
    assert len(drawn) == 200
    assert all(MIDDLING.contains(arch) and HALF.allows(cost_of(arch).flops, cost_of(arch).params) for arch in drawn)
    assert 0 < shares(drawn, 0)[8] < shares(drawn, 0)[12]


def test_the_generator_alone_decides() -> None:
    first, second = (BalancedSampler(MIDDLING, HALF).sample_many(np.random.default_rng(5), 50) for _ in range(2))
    assert first == second
    assert first != BalancedSampler(MIDDLING, HALF).sample_many(np.random.default_rng(6), 50)


def test_a_budget_that_nothing_meets_is_refused() -> None:
    with pytest.raises(BudgetError, match="the nearest"):
        BalancedSampler(MIDDLING, Budget(flops_max=10))
