"""Counts and costs near the bounds of 64 bits, and tables of rounded costs where a space is too rich for exact ones."""

from __future__ import annotations

from collections import Counter
from itertools import product
from math import prod
from typing import ClassVar

import numpy as np
import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.errors import BudgetError, UserError
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.feasible.overflow import check_costs_fit
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import shipped_spaces
from tests.counted_spaces import FOUR_STAGES, EveryNetwork, shipped, space_of
from tests.sret_nas.feasible.brute_force import SPACES, every_network, inside


class TestLargeNumbers:
    """Counts above 2**53, where floating point has gaps, and costs whose product exceeds 64 bits."""

    # All stages of a width own the same parameters but for the MLP: an odd number, 5 heads x (2**9 - 1) schedules.
    SCHEDULES: ClassVar = [[1 + (number >> bit & 1) for bit in range(9)] for number in range(2**9 - 1)]
    FREE: ClassVar = {"width": [45], "heads": [1, 3, 5, 9, 15], "blocks": [2], "recursions": [9],
                      "groups": SCHEDULES, "mlp_ratio": [1.0, 2.0]}  # fmt: skip
    NUM_FREE = 5 * (2**9 - 1)

    @pytest.mark.parametrize("num_stages", [5, 6])
    def test_counts_by_parameters(self, num_stages: int) -> None:
        space = space_of(*[self.FREE] * num_stages, image_size=32 * 2**num_stages)
        assert space.num_networks == (2 * self.NUM_FREE) ** num_stages > 10**17
        shallow = space.network([0] * num_stages)
        params = [
            cost_of(shallow.model_copy(update={"stages": tuple(
                stage.model_copy(update={"mlp_ratio": ratio})
                for stage, ratio in zip(shallow.stages, ratios, strict=True)
            )})).params
            for ratios in product([1.0, 2.0], repeat=num_stages)
        ]  # fmt: skip
        for bound in sorted(set(params))[1::2]:
            feasible = FeasibleSet(space, Budget(params_max=bound))
            expected = sum(cost <= bound for cost in params) * self.NUM_FREE**num_stages
            if feasible.count_is_exact:
                assert feasible.count == expected
            assert feasible.count == pytest.approx(expected, rel=1e-12)
            drawn = feasible.sample_choices(np.random.default_rng(0), 20)
            assert all(choice_costs_of(space).cost(tuple(row))[1] <= bound for row in drawn.tolist())
        assert feasible.count_is_exact == (num_stages == 5)

    @pytest.mark.parametrize("name", sorted(shipped_spaces()))
    def test_a_budget_that_all_meet_counts_all(self, name: str) -> None:
        space = shipped(name)
        most_expensive = FeasibleSet(space, Budget()).most_expensive()
        for budget in (Budget(flops_max=most_expensive.flops), Budget(flops_max=10**12, params_max=10**12)):
            assert FeasibleSet(space, budget).count == prod(len(table) for table in space.stage_tables)

    def test_costs_whose_product_exceeds_64_bits(self) -> None:
        stage = {"width": [2048, 4096], "blocks": [32, 64], "recursions": [1, 2], "mlp_ratio": [4.0, 8.0],
                 "nll": ["every", "none"]}  # fmt: skip
        space = space_of(stage, stage, stage, image_size=2048)
        every = EveryNetwork(space)
        assert int(every.flops.max()) * int(every.params.max()) > 2**64
        for share in (0.1, 0.5, 0.9):
            budget = Budget(flops_max=int(np.quantile(every.flops, share)), params_min=int(np.median(every.params)))
            assert FeasibleSet(space, budget).count == every.is_inside(budget).sum()

    def test_costs_that_do_not_fit_are_refused(self) -> None:
        stage = {"width": [8192], "blocks": [128], "recursions": [16], "mlp_ratio": [16.0]}
        space = space_of(stage, image_size=4096, stem={"strides": [1, 1, 1]})
        with pytest.raises(UserError, match=r"test: networks must cost at most 4\.61e\+18 FLOPs, .* up to 9\.\d+e\+21"):
            FeasibleSet(space, Budget(flops_max=10**9))
        assert FeasibleSet(space_of(stage), Budget()).count == 1

    @pytest.mark.parametrize("name", [*SPACES, "sret_tiny", "paper_ablations"])
    def test_the_bound_on_costs_holds(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """The most expensive network passes with its own cost as the most, and no less."""
        space = SPACES.get(name) or shipped(name)
        most_expensive = FeasibleSet(space, Budget()).most_expensive()
        monkeypatch.setattr("sret_nas.feasible.overflow.MAX_COST", most_expensive.flops - 1)
        with pytest.raises(UserError, match="as costs are summed in 64 bits"):
            check_costs_fit(space.model_copy())  # one that was not looked at yet

    def test_of_a_single_network_with_full_convolutions_it_is_the_cost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Widths without a common divisor make the most expensive pooling; then the bound is met by the network
        itself."""
        space = space_of(
            *({"width": [width], "heads": [1], "nll": ["every"]} for width in (9, 16, 25)), stem={"width": [4]}
        )
        assert space.num_networks == 1
        network = FeasibleSet(space, Budget()).most_expensive()
        monkeypatch.setattr("sret_nas.feasible.overflow.MAX_COST", max(network.flops, network.params))
        check_costs_fit(space.model_copy())
        monkeypatch.setattr("sret_nas.feasible.overflow.MAX_COST", network.flops - 1)
        with pytest.raises(UserError, match="FLOPs, as costs are summed in 64 bits"):
            check_costs_fit(space.model_copy())


class TestRoundedTable:
    """A table of few cells, as a space needs that is too rich to be counted exactly."""

    @pytest.mark.slow
    def test_count_is_an_estimate_and_members_are_exact(self) -> None:
        networks = every_network(FOUR_STAGES)
        flops = sorted(network.flops for network in networks.values())
        params = sorted(network.params for network in networks.values())
        budget = Budget(flops_max=flops[len(flops) // 2], params_max=params[len(params) // 2])
        expected = inside(networks, budget)
        feasible = FeasibleSet(FOUR_STAGES, budget, max_pairs=300)
        assert not feasible.count_is_exact
        assert feasible.count == pytest.approx(len(expected), rel=0.1)
        assert Counter(arch.arch_id for arch in feasible) == Counter(expected)

    def test_windows_split_off_have_the_counts_and_members_of_their_own_sets(self) -> None:
        flops = sorted(network.flops for network in every_network(FOUR_STAGES).values())
        middle = flops[len(flops) // 2]
        windows = [Budget(flops_max=middle), Budget(flops_max=flops[-1] - 1)]
        alone = [FeasibleSet(FOUR_STAGES, window, max_pairs=300) for window in windows]
        for part, same in zip(alone[0].split(windows), alone, strict=True):
            assert not part.count_is_exact
            assert part.count == same.count
            assert part.sample_many(np.random.default_rng(0), 50) == same.sample_many(np.random.default_rng(0), 50)

    def test_without_a_budget_the_count_stays_exact(self) -> None:
        feasible = FeasibleSet(FOUR_STAGES, Budget(), max_pairs=300)
        assert (feasible.count, feasible.count_is_exact) == (FOUR_STAGES.num_networks, True)

    @pytest.mark.slow
    def test_a_window_too_narrow_is_refused_and_does_not_hang(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sret_nas.feasible.feasible_set.MAX_TRIES", 3)
        networks = every_network(FOUR_STAGES)
        rarest = min(Counter(network.flops for network in networks.values()).items(), key=lambda item: item[1])[0]
        feasible = FeasibleSet(FOUR_STAGES, Budget(flops_min=rarest, flops_max=rarest), max_pairs=300)
        assert not feasible.is_empty
        with pytest.raises(BudgetError, match=r"\d draws from test all missed the budget .*: the space is too rich"):
            feasible.sample_many(np.random.default_rng(0), 1)
