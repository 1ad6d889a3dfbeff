"""Draws from the networks inside a budget are uniform, in wide windows and in rare ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.arch.presets import preset
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import (
    FIRST,
    FOUR_STAGES,
    HEADS,
    MIDDLING,
    RESIDUALS,
    STEMS,
    EveryNetwork,
    chi_square_deviation,
    shipped,
    space_of,
)

UNEVEN = space_of(
    FIRST, {"width": [12], "mlp_ratio": [1.0, 1.5, 2.0, 3.0]},
    {"width": [12], "mlp_ratio": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}, {"width": [16, 24]}, image_size=64,
)  # fmt: skip
FOUR_RESIDUALS = FOUR_STAGES.model_copy(update={"residual": ("branch", "path")})
EVERY_MIDDLING = EveryNetwork(MIDDLING)


def middling_window(first: float, last: float, params: bool = False) -> Budget:
    """Returns a window of MIDDLING's FLOPs between two shares of its networks, and of parameters alike if asked for."""
    flops, quantiles = np.sort(EVERY_MIDDLING.flops), np.sort(EVERY_MIDDLING.params)
    low, high = (int(share * (len(flops) - 1)) for share in (first, last))
    bounds = {"params_min": int(quantiles[low]), "params_max": int(quantiles[high])} if params else {}
    return Budget(flops_min=int(flops[low]), flops_max=int(flops[high]), **bounds)


class TestUniformDraws:
    """Checks by Pearson's chi-square that all networks of a window are drawn equally often, and no others."""

    @staticmethod
    def deviation(every: EveryNetwork, feasible: FeasibleSet, number: int) -> float:
        times = every.times_drawn(feasible.sample_choices(np.random.default_rng(1), number))
        inside = every.is_inside(feasible.budget)
        assert times[~inside].sum() == 0
        return chi_square_deviation(times[inside], np.full(inside.sum(), number / inside.sum()))

    @pytest.mark.parametrize(
        "budget",
        [middling_window(0.3, 0.7), middling_window(0.2, 0.8, params=True), middling_window(0.5, 0.503),
         Budget(flops_max=middling_window(0, 0.6).flops_max), Budget(params_min=int(np.median(EVERY_MIDDLING.params))),
         Budget()],
        ids=lambda budget: budget.describe(),
    )  # fmt: skip
    def test_space_of_32640_networks(self, budget: Budget) -> None:
        feasible = FeasibleSet(MIDDLING, budget)
        assert len(EVERY_MIDDLING.choices) == MIDDLING.num_networks == 120 * 68 * 4
        assert feasible.count == EVERY_MIDDLING.is_inside(budget).sum() > 50
        assert abs(self.deviation(EVERY_MIDDLING, feasible, 10 * feasible.count)) < 4

    @pytest.mark.parametrize("space", [STEMS, RESIDUALS, HEADS], ids=["all stems", "all residuals", "all heads"])
    def test_of_spaces_that_list_variants(self, space: SearchSpace) -> None:
        every = EveryNetwork(space)
        flops, params = np.quantile(every.flops, [0.2, 0.8]), np.quantile(every.params, [0.1, 0.9])
        budget = Budget(flops_min=int(flops[0]), flops_max=int(flops[1]), params_max=int(params[1]))
        feasible = FeasibleSet(space, budget)
        assert 40 < feasible.count < space.num_networks
        assert abs(self.deviation(every, feasible, 30 * feasible.count)) < 4

    @pytest.mark.parametrize("at_once", [1, 7, 2**20])
    def test_however_many_are_drawn_at_once(self, at_once: int) -> None:
        """Single draws, and parts of a large one, come from the same code in other steps."""
        feasible, rng = FeasibleSet(MIDDLING, middling_window(0.4, 0.41, params=True)), np.random.default_rng(2)
        inside = EVERY_MIDDLING.is_inside(feasible.budget)
        number = 8 * int(inside.sum())
        parts = [feasible.sample_choices(rng, min(at_once, number)) for _ in range(-(-number // at_once))]
        times = EVERY_MIDDLING.times_drawn(np.concatenate(parts))
        assert times[~inside].sum() == 0
        expected = np.full(inside.sum(), sum(map(len, parts)) / inside.sum())
        assert abs(chi_square_deviation(times[inside], expected)) < 4

    def test_in_parts_that_bound_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        feasible = FeasibleSet(MIDDLING, middling_window(0.3, 0.7))
        drawn = feasible.sample_choices(np.random.default_rng(0), 500)
        monkeypatch.setattr("sret_nas.feasible.cost_table._CHUNK", 40)
        assert (FeasibleSet(MIDDLING, feasible.budget).sample_choices(np.random.default_rng(0), 500) == drawn).all()

    @pytest.mark.parametrize("max_pairs", [10**6, 100])
    @pytest.mark.parametrize("space", [FOUR_STAGES, UNEVEN, FOUR_RESIDUALS], ids=["even", "uneven", "residuals"])
    def test_four_stages_exact_and_rounded(self, space: SearchSpace, max_pairs: int) -> None:
        """In the uneven one, cells of the first two stages hold pairs that stand for different numbers of networks."""
        every = EveryNetwork(space)
        flops = np.sort(every.flops)
        budget = Budget(flops_min=int(flops[len(flops) // 3]), flops_max=int(flops[len(flops) // 2]))
        feasible = FeasibleSet(space, budget, max_pairs=max_pairs)
        assert feasible.count_is_exact == (max_pairs == 10**6)
        assert abs(self.deviation(every, feasible, 20_000)) < 4

    def test_residuals_do_not_count_towards_the_limit_of_an_exact_count(self) -> None:
        def is_exact(space: SearchSpace, max_pairs: int) -> bool:
            return FeasibleSet(space, Budget(flops_max=10**9), max_pairs=max_pairs).count_is_exact

        listed = MIDDLING.model_copy(update={"residual": ("path", "branch", "plain")})
        enough = 10**6
        while is_exact(MIDDLING, enough // 2):  # then it is less than twice what is needed
            enough //= 2
        assert enough > 1000
        assert is_exact(listed, enough)
        assert not is_exact(listed, enough // 4)

    def test_draws_in_a_row_are_independent(self) -> None:
        """Draws are not sorted by cost or width: the first ones are distributed as all others."""
        drawn = FeasibleSet(MIDDLING, Budget(flops_max=10**9)).sample_choices(np.random.default_rng(0), 20_000)
        for stage in range(3):
            correlation = np.corrcoef(drawn[:-1, stage], drawn[1:, stage])[0, 1]
            assert abs(correlation) < 5 / 20_000**0.5

    def test_samples_are_the_networks_of_the_choices(self) -> None:
        feasible = FeasibleSet(FOUR_STAGES, Budget(flops_max=600_000))
        choices = feasible.sample_choices(np.random.default_rng(5), 20)
        costs = choice_costs_of(FOUR_STAGES)
        expected = [costs.network(FOUR_STAGES, tuple(row)) for row in choices.tolist()]
        assert feasible.sample_many(np.random.default_rng(5), 20) == expected
        assert feasible.sample(np.random.default_rng(5)) == feasible.sample_many(np.random.default_rng(5), 1)[0]
        assert (choices.shape, choices.dtype) == ((20, 4), np.dtype(np.int64))
        assert feasible.sample_choices(np.random.default_rng(5), 0).shape == (0, 4)

    def test_seed_decides(self) -> None:
        feasible = FeasibleSet(MIDDLING, Budget(flops_max=600_000))
        first, again = (feasible.sample_many(np.random.default_rng(3), 5) for _ in range(2))
        assert first == again
        assert first != feasible.sample_many(np.random.default_rng(4), 5)


class TestRareWindows:
    def test_one_network(self) -> None:
        costs = Counter(zip(EVERY_MIDDLING.flops.tolist(), EVERY_MIDDLING.params.tolist(), strict=True))
        (flops, params), _ = min(costs.items(), key=lambda item: item[1])
        assert costs[flops, params] == 1
        only = np.flatnonzero((EVERY_MIDDLING.flops == flops) & (EVERY_MIDDLING.params == params))
        network = choice_costs_of(MIDDLING).network(MIDDLING, tuple(EVERY_MIDDLING.choices[only[0]].tolist()))
        feasible = FeasibleSet(MIDDLING, Budget(flops_min=flops, flops_max=flops, params_min=params, params_max=params))
        assert (feasible.count, feasible.probability(network)) == (1, 1.0)
        assert list(feasible) == [network]
        assert feasible.sample_many(np.random.default_rng(0), 3) == [network] * 3

    @pytest.mark.slow
    def test_one_in_a_hundred_million(self) -> None:
        space, cost = shipped("sret_tiny"), cost_of(preset("sret_t"))
        budget = Budget(flops_min=cost.flops, flops_max=cost.flops, params_min=cost.params, params_max=cost.params)
        feasible = FeasibleSet(space, budget)
        assert 0 < feasible.count < space.num_networks / 1e8
        assert feasible.count == len({arch.arch_id for arch in feasible})
        assert preset("sret_t").arch_id in {arch.arch_id for arch in feasible}
        for arch in feasible.sample_many(np.random.default_rng(0), 20):
            assert (cost_of(arch).flops, cost_of(arch).params) == (cost.flops, cost.params)
