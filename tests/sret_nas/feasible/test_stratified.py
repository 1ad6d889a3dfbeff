from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import bounded_costs, cost_of
from sret_nas.arch.parts import StemConfig
from sret_nas.arch.presets import preset
from sret_nas.errors import BudgetError
from sret_nas.feasible.feasible_set import CostName, FeasibleSet
from sret_nas.feasible.stratified import StrataByCost, StratifiedSampler
from sret_nas.space.choice_costs import choice_costs_of
from tests.counted_spaces import FOUR_STAGES, MIDDLING, EveryNetwork, chi_square_deviation, shipped

EVERY = EveryNetwork(MIDDLING)


def quantile(cost: CostName, share: float) -> int:
    """Returns the quantile of a cost in MIDDLING."""
    return int(np.sort(getattr(EVERY, cost))[int(share * (len(EVERY.choices) - 1))])


BUDGETS = {
    "all": Budget(),
    "below": Budget(flops_max=quantile("flops", 0.5)),
    "above, in parameters": Budget(params_min=quantile("params", 0.7)),
    "a window of both": Budget(
        flops_min=quantile("flops", 0.3), flops_max=quantile("flops", 0.6),
        params_min=quantile("params", 0.3), params_max=quantile("params", 0.8),
    ),
    "narrow": Budget(flops_min=quantile("flops", 0.5), flops_max=quantile("flops", 0.505)),
}  # fmt: skip


def by_hand(budget: Budget, by: CostName, number: int) -> list[np.ndarray]:
    """Returns the positions of the networks in each non-empty stratum of equal width in log cost."""
    costs = getattr(EVERY, by)
    inside = np.flatnonzero(EVERY.is_inside(budget))
    low = max(int(costs.min()), getattr(budget, f"{by}_min") or 0)
    high = min(int(costs.max()), getattr(budget, f"{by}_max") or int(costs.max())) + 1
    edges = [round(low * (high / low) ** (step / number)) for step in range(number + 1)]
    strata = [inside[(costs[inside] >= start) & (costs[inside] < end)] for start, end in pairwise(edges)]
    return [stratum for stratum in strata if len(stratum)]


@pytest.mark.parametrize("by", ["flops", "params"])
@pytest.mark.parametrize("name", BUDGETS)
class TestAgainstBruteForce:
    def test_counts(self, name: str, by: CostName) -> None:
        strata = StratifiedSampler(MIDDLING, BUDGETS[name], by=by)
        assert [stratum.count for stratum in strata.strata] == [len(part) for part in by_hand(BUDGETS[name], by, 16)]
        assert sum(stratum.count for stratum in strata.strata) == FeasibleSet(MIDDLING, BUDGETS[name]).count

    def test_draws_are_uniform_within_strata_and_spread_evenly_over_them(self, name: str, by: CostName) -> None:
        strata, parts = StratifiedSampler(MIDDLING, BUDGETS[name], num_strata=6, by=by), by_hand(BUDGETS[name], by, 6)
        number = 10 * max(map(len, parts)) * len(parts)
        times = EVERY.times_drawn(strata.sample_choices(np.random.default_rng(3), number))
        assert [times[part].sum() for part in parts] == [number / len(parts)] * len(parts)
        for part in parts:
            if len(part) > 1:
                expected = np.full(len(part), number / len(parts) / len(part))
                assert abs(chi_square_deviation(times[part], expected)) < 4.5

    def test_probabilities_are_those_of_the_draws_and_sum_to_one(self, name: str, by: CostName) -> None:
        strata, parts = StratifiedSampler(MIDDLING, BUDGETS[name], by=by), by_hand(BUDGETS[name], by, 16)
        costs = choice_costs_of(MIDDLING)
        total = 0.0
        for part in parts:
            some = costs.network(MIDDLING, tuple(EVERY.choices[part[-1]].tolist()))
            assert strata.probability(some) == pytest.approx(1 / len(parts) / len(part), rel=1e-12)
            total += len(part) * strata.probability(some)
        assert total == pytest.approx(1, rel=1e-12)


class TestProbability:
    @pytest.mark.slow
    def test_over_every_network_of_a_space(self) -> None:
        budget = Budget(flops_max=int(np.median(EveryNetwork(FOUR_STAGES).flops)))
        strata = StratifiedSampler(FOUR_STAGES, budget)
        probabilities = {arch: strata.probability(arch) for arch in FeasibleSet(FOUR_STAGES, Budget())}
        inside = {arch for arch in probabilities if cost_of(arch).flops <= (budget.flops_max or 0)}
        assert {arch for arch, probability in probabilities.items() if probability > 0} == inside
        assert sum(probabilities.values()) == pytest.approx(1, rel=1e-12)

    @pytest.mark.slow
    def test_a_network_of_another_space_has_none(self) -> None:
        strata = StratifiedSampler(shipped("sret_tiny"), Budget(flops_max=2 * 10**9))
        assert strata.probability(preset("sret_t")) > 0
        assert strata.probability(preset("sret_t").model_copy(update={"stem": StemConfig(width=30)})) == 0


class TestDraws:
    def test_as_many_from_each_give_or_take_one(self) -> None:
        strata = StratifiedSampler(MIDDLING, Budget(), num_strata=5)
        for seed in range(16):
            times = EVERY.times_drawn(strata.sample_choices(np.random.default_rng(seed), 43))
            numbers = [int(times[EVERY.is_inside(stratum.budget)].sum()) for stratum in strata.strata]
            assert sorted(numbers) == [8, 8, 9, 9, 9]

    def test_in_random_order(self) -> None:
        """The first strata are not always the same, and the first draws are not always cheap."""
        strata = StratifiedSampler(MIDDLING, Budget(), num_strata=8)
        first = [strata.sample_choices(np.random.default_rng(seed), 8)[0] for seed in range(64)]
        position = {tuple(choices): at for at, choices in enumerate(EVERY.choices.tolist())}
        flops = EVERY.flops[[position[tuple(choices.tolist())] for choices in first]]
        numbers = [sum(stratum.budget.allows(int(cost), 1) for cost in flops) for stratum in strata.strata]
        assert sum(numbers) == 64
        assert abs(chi_square_deviation(np.array(numbers), np.full(8, 8.0))) < 4

    def test_networks_are_those_of_the_choices_and_the_seed_decides(self) -> None:
        strata, costs = StratifiedSampler(FOUR_STAGES, Budget()), choice_costs_of(FOUR_STAGES)
        choices = strata.sample_choices(np.random.default_rng(1), 12)
        drawn = strata.sample_many(np.random.default_rng(1), 12)
        assert drawn == [costs.network(FOUR_STAGES, tuple(row)) for row in choices.tolist()]
        assert drawn == StratifiedSampler(FOUR_STAGES, Budget()).sample_many(np.random.default_rng(1), 12)
        assert drawn != strata.sample_many(np.random.default_rng(2), 12)
        assert strata.sample_many(np.random.default_rng(1), 0) == []


class TestEnds:
    def test_one_network(self) -> None:
        cheapest = FeasibleSet(MIDDLING, Budget()).cheapest()
        strata = StratifiedSampler(MIDDLING, Budget(flops_max=cheapest.flops, params_max=cheapest.params))
        assert [stratum.count for stratum in strata.strata] == [1]
        assert strata.sample_many(np.random.default_rng(0), 3) == [cheapest.arch] * 3
        assert strata.probability(cheapest.arch) == 1

    def test_no_network(self) -> None:
        with pytest.raises(BudgetError, match="no network of test"):
            StratifiedSampler(MIDDLING, Budget(flops_max=10))

    @pytest.mark.slow
    @pytest.mark.parametrize("by", ["flops", "params"])
    def test_sret_tiny_at_one_gflops(self, by: CostName) -> None:
        """Strata of a large space add up to its count, and their draws lie in them."""
        space, budget = shipped("sret_tiny"), Budget(flops_max=10**9)
        strata = StratifiedSampler(space, budget, by=by)
        assert sum(stratum.count for stratum in strata.strata) == FeasibleSet(space, budget).count == 971_481_272_976
        for arch in strata.sample_many(np.random.default_rng(0), 32):
            assert strata.probability(arch) > 0
            assert cost_of(arch).flops <= 10**9


def test_counting_together_is_counting_apart() -> None:
    budgets = [BUDGETS[name] for name in ("below", "narrow")]
    together = FeasibleSet(MIDDLING, Budget()).split(budgets)
    assert [members.budget for members in together] == budgets
    assert [members.count for members in together] == [FeasibleSet(MIDDLING, budget).count for budget in budgets]


def test_each_cost_has_its_own_strata_which_are_made_once() -> None:
    strata = StrataByCost(MIDDLING, BUDGETS["a window of both"])
    for by in ("flops", "params"):
        expected = StratifiedSampler(MIDDLING, BUDGETS["a window of both"], by=by)
        assert [stratum.budget for stratum in strata.of(by).strata] == [stratum.budget for stratum in expected.strata]
        assert strata.of(by) is strata.of(by)


def test_networks_are_drawn_although_estimates_count_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where spaces are so large that counts are estimates, few draws can all miss a window that has networks."""
    budget = BUDGETS["narrow"]
    monkeypatch.setattr(FeasibleSet, "count", 0)
    monkeypatch.setattr(FeasibleSet, "has_members", False)
    sampler = StratifiedSampler(MIDDLING, budget)
    drawn = sampler.sample_many(np.random.default_rng(0), 3)
    assert all(budget.allows(*bounded_costs(arch)) for arch in drawn)
    assert FeasibleSet(MIDDLING, budget).probability(drawn[0]) == 1.0
