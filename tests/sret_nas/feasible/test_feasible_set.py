"""The networks inside a budget: how many there are, which, its ends, and what an impossible budget is told."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.arch.parts import StemConfig
from sret_nas.arch.presets import preset
from sret_nas.errors import BudgetError
from sret_nas.feasible.cost_cells import BOTH
from sret_nas.feasible.cost_table import CostTable
from sret_nas.feasible.feasible_set import CostedArch, FeasibleSet
from sret_nas.quantities import parse_quantity
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import FOUR_STAGES, EveryNetwork, shipped, space_of
from tests.sret_nas.feasible.brute_force import SPACES, every_network, inside

BRUTE_FORCE: dict[str, dict[str, CostedArch]] = {}


@pytest.fixture(params=SPACES)
def case(request: pytest.FixtureRequest) -> tuple[SearchSpace, dict[str, CostedArch]]:
    name = request.param
    if name not in BRUTE_FORCE:
        BRUTE_FORCE[name] = every_network(SPACES[name])
    return SPACES[name], BRUTE_FORCE[name]


def budgets_around(networks: dict[str, CostedArch], number: int) -> list[Budget]:
    """Returns budgets of every form whose bounds are costs that occur, or lie one beside them."""
    rng = random.Random(0)
    flops = sorted({network.flops for network in networks.values()})
    params = sorted({network.params for network in networks.values()})
    budgets = [Budget()]
    for _ in range(number):
        f, p = (sorted(rng.choice(costs) + rng.choice([-1, 0, 0, 1]) for _ in range(2)) for costs in (flops, params))
        budgets += [
            Budget(flops_max=f[1]), Budget(params_max=p[1]), Budget(flops_min=f[0]), Budget(params_min=p[0]),
            Budget(flops_max=f[1], params_max=p[1]), Budget(flops_max=f[0], params_min=p[1]),
            Budget(flops_min=f[0], flops_max=f[1], params_max=p[1]),
            Budget(flops_min=f[0], flops_max=f[1], params_min=p[0], params_max=p[1]),
            Budget(flops_min=f[0], flops_max=f[0]),
        ]  # fmt: skip
    return budgets


class TestAgainstBruteForce:
    def test_the_space_itself(self, case: tuple[SearchSpace, dict[str, CostedArch]]) -> None:
        space, networks = case
        assert space.num_networks == len(networks)

    def test_the_bulk_formula_costs_the_same_networks(self, case: tuple[SearchSpace, dict[str, CostedArch]]) -> None:
        space, networks = case
        every = EveryNetwork(space)
        assert Counter(zip(every.flops.tolist(), every.params.tolist(), strict=True)) == Counter(
            (network.flops, network.params) for network in networks.values()
        )

    @pytest.mark.slow
    def test_count_and_members(self, case: tuple[SearchSpace, dict[str, CostedArch]]) -> None:
        space, networks = case
        for budget in budgets_around(networks, 2):
            feasible = FeasibleSet(space, budget)
            expected = inside(networks, budget)
            assert (feasible.count, feasible.count_is_exact) == (len(expected), True), budget
            assert feasible.is_empty == (not expected), budget
            assert Counter(arch.arch_id for arch in feasible) == Counter(expected), budget
            assert feasible.share == len(expected) / len(networks)

    def test_samples_are_members(self, case: tuple[SearchSpace, dict[str, CostedArch]]) -> None:
        space, networks = case
        for budget in budgets_around(networks, 2):
            expected = inside(networks, budget)
            if expected:
                drawn = FeasibleSet(space, budget).sample_many(np.random.default_rng(0), 20)
                assert {arch.arch_id for arch in drawn} <= expected, budget

    def test_ends(self, case: tuple[SearchSpace, dict[str, CostedArch]]) -> None:
        space, networks = case
        feasible = FeasibleSet(space, Budget())
        by_flops = sorted((network.flops, network.params) for network in networks.values())
        by_params = sorted((network.params, network.flops) for network in networks.values())
        for end, expected in (
            (feasible.cheapest("flops"), by_flops[0]), (feasible.most_expensive("flops"), by_flops[-1]),
            (feasible.cheapest("params"), by_params[0][::-1]), (feasible.most_expensive("params"), by_params[-1][::-1]),
        ):  # fmt: skip
            assert end[1:3] == expected
            assert networks[end.arch.arch_id][1:3] == expected

    def test_nearest(self, case: tuple[SearchSpace, dict[str, CostedArch]]) -> None:
        space, networks = case
        flops = sorted({network.flops for network in networks.values()})
        params = sorted({network.params for network in networks.values()})
        gap = max(pairwise(flops), key=lambda pair: pair[1] - pair[0], default=(0, 10**9))
        budgets = [
            Budget(flops_max=1), Budget(params_max=7), Budget(flops_max=flops[0] - 1, params_max=params[0] // 3),
            Budget(flops_max=flops[len(flops) // 2], params_max=params[0] // 2), Budget(params_min=params[-1] + 1),
            Budget(flops_min=flops[-1] * 2, params_min=params[-1] * 3),
            Budget(flops_max=flops[0], params_min=params[-1] + 1), Budget(flops_min=1, flops_max=2),
            Budget(flops_min=gap[0] + 1, flops_max=gap[1] - 1),
            Budget(flops_min=flops[-1], flops_max=flops[-1] + 1, params_max=params[0] - 1),
            Budget(flops_max=flops[-1]), Budget(flops_min=flops[0], flops_max=flops[0]),
        ]  # fmt: skip
        for budget in budgets:
            near = FeasibleSet(space, budget).nearest()
            least = min(budget.excess(network.flops, network.params) for network in networks.values())
            assert networks[near.arch.arch_id][1:] == near[1:]
            assert budget.excess(near.flops, near.params) == least, budget


BELOW = Budget(flops_max=800_000)


@pytest.mark.parametrize("max_pairs", [-5, 0, 2**40 + 1, 10**30])
def test_a_limit_that_no_table_can_be_made_with_is_refused(max_pairs: int) -> None:
    with pytest.raises(ValueError, match=rf"max_pairs must be from 1 to 1,099,511,627,776, got {max_pairs:,}$"):
        FeasibleSet(FOUR_STAGES, BELOW, max_pairs=max_pairs)
    with pytest.raises(ValueError, match="max_pairs must be from 1 "):
        CostTable(choice_costs_of(FOUR_STAGES), BOTH, max_pairs)


@pytest.mark.parametrize("max_pairs", [1, 2**40])
def test_the_least_and_the_largest_limit_make_a_table(max_pairs: int) -> None:
    feasible = FeasibleSet(FOUR_STAGES, BELOW, max_pairs=max_pairs)
    assert feasible.count == pytest.approx(FeasibleSet(FOUR_STAGES, BELOW).count, rel=0.05)
    drawn = feasible.sample_many(np.random.default_rng(0), 20)
    assert max(cost_of(arch).flops for arch in drawn) <= 800_000


@pytest.mark.parametrize(
    ("budget", "max_pairs", "is_exact"),
    [(Budget(flops_max=600_000), 10**6, True), (Budget(flops_max=600_000), 300, False), (Budget(), 300, True)],
)
def test_count_is_plain_data(budget: Budget, max_pairs: int, is_exact: bool) -> None:
    """Python's own numbers and truth values, which go into JSON and YAML; numpy's do not."""
    feasible = FeasibleSet(FOUR_STAGES, budget, max_pairs=max_pairs)
    assert (type(feasible.count), type(feasible.count_is_exact)) == (int, bool)
    assert json.loads(json.dumps([feasible.count, feasible.count_is_exact])) == [feasible.count, is_exact]


def listed(*values: str) -> st.SearchStrategy[str | list[str]]:
    """One of some values, or some of them to choose from."""
    return st.one_of(st.sampled_from(values), st.permutations(values).map(lambda order: order[: 1 + len(order[0]) % 3]))


VARIANTS = st.fixed_dictionaries(
    {
        "residual": listed("path", "branch", "plain"),
        "head": listed("average", "class_token", "distillation_token"),
        "stem": st.fixed_dictionaries(
            {
                "kind": st.sampled_from(["conv", ["patch", "conv"], ["conv", "patch"]]),
                "norm": listed("batch", "layer", "none"),
            }
        ),
    }
)


@pytest.mark.slow
@settings(max_examples=25)
@given(VARIANTS, st.integers(1, 4), st.randoms(use_true_random=False))
def test_random_spaces_that_list_variants(variants: dict[str, Any], num_stages: int, rng: random.Random) -> None:
    """Counts, members and draws inside random budgets are those of all networks, built one by one."""
    stages = [
        {"width": rng.choice([[8], [8, 12]]), "recursions": rng.choice([[1], [1, 2]]), "nll": ["every", "none"]}
        for _ in range(num_stages)
    ]
    stages[-1]["groups"] = rng.choice([[[1]], [[1], [2, 1]]]) if "average" in variants["head"] else [[1]]
    space = space_of(*stages, **variants)
    every, costs = EveryNetwork(space), choice_costs_of(space)
    networks = [costs.network(space, tuple(row)) for row in every.choices.tolist()]
    assert space.num_networks == len({arch.arch_id for arch in networks}) == len(networks)
    flops, params = (sorted(rng.choice(values.tolist()) for _ in range(2)) for values in (every.flops, every.params))
    budget = Budget(flops_min=flops[0], flops_max=flops[1], params_max=params[1])
    inside = every.is_inside(budget)
    feasible = FeasibleSet(space, budget)
    assert (feasible.count, feasible.count_is_exact) == (inside.sum(), True)
    assert {arch.arch_id for arch in feasible} == {networks[at].arch_id for at in np.flatnonzero(inside).tolist()}
    if feasible.count:
        drawn = feasible.sample(np.random.default_rng(0))
        assert feasible.probability(drawn) == 1 / feasible.count
        assert costs.cost(costs.choices(space, drawn)) == (cost_of(drawn).flops, cost_of(drawn).params)
    dearest = max(networks, key=lambda arch: (cost_of(arch).params, cost_of(arch).flops))
    assert FeasibleSet(space, Budget()).most_expensive("params").params == cost_of(dearest).params


class TestProbability:
    def test_it_is_one_over_the_count_inside_and_zero_outside(
        self, case: tuple[SearchSpace, dict[str, CostedArch]]
    ) -> None:
        space, networks = case
        costs = sorted(network.flops for network in networks.values())
        budget = Budget(flops_max=costs[len(costs) // 2])
        feasible, expected = FeasibleSet(space, budget), inside(networks, budget)
        for arch_id, network in list(networks.items())[::-1][:200]:
            assert feasible.probability(network.arch) == (1 / len(expected) if arch_id in expected else 0)

    def test_a_network_of_another_space_has_none(self) -> None:
        assert FeasibleSet(shipped("sret_tiny"), Budget(flops_max=10**9)).probability(preset("sret_s")) == 0
        wider = preset("sret_t").model_copy(update={"stem": StemConfig(width=30)})
        assert FeasibleSet(shipped("sret_tiny"), Budget(flops_max=2 * 10**9)).probability(wider) == 0


class TestShippedSpaces:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "budget"),
        [("sret_tiny", Budget(flops_max=10**9)), ("sret_tiny", Budget(flops_max=6 * 10**8, params_max=3 * 10**6)),
         ("sret_small", Budget(flops_max=42 * 10**8, params_max=21 * 10**6)),
         ("paper_ablations", Budget(flops_max=10**9))],
    )  # fmt: skip
    def test_count_is_exact_and_agrees_with_random_networks(self, name: str, budget: Budget) -> None:
        """The share of networks drawn without the budget estimates the count, to 5 standard deviations."""
        space = shipped(name)
        feasible = FeasibleSet(space, budget)
        assert feasible.count_is_exact
        rng, number = np.random.default_rng(0), 2_000
        tables = space.stage_tables
        anywhere = [space.network([int(rng.integers(len(table))) for table in tables]) for _ in range(number)]
        hits = sum(budget.allows(cost_of(arch).flops, cost_of(arch).params) for arch in anywhere)
        share = feasible.count / space.num_networks
        assert hits / number == pytest.approx(share, abs=5 * (share * (1 - share) / number) ** 0.5)
        for arch in feasible.sample_many(rng, 50):
            assert budget.allows(cost_of(arch).flops, cost_of(arch).params)
            assert space.contains(arch)


class TestCheck:
    def test_says_nothing_about_a_budget_that_can_be_met(self) -> None:
        FeasibleSet(shipped("smoke"), Budget(flops_max=10**8)).check()

    def test_text(self) -> None:
        with pytest.raises(BudgetError) as caught:
            FeasibleSet(shipped("smoke"), Budget(flops_max=10**7)).check()
        assert str(caught.value) == (
            "no network of smoke (at 224 px) has FLOPs at most 10M; the nearest has 56.23M FLOPs (5.622 times the "
            "budget of 10M) and 159.2K parameters; raise the FLOPs budget to at least 56.23M, or use another search "
            "space"
        )

    @pytest.mark.parametrize(
        ("flops", "told"), [(10, "5,622,067"), (56_000, "1,004"), (56_215, "1,000"), (57_000, "986.3")]
    )
    def test_how_far_a_budget_is_off_has_no_exponent(self, flops: int, told: str) -> None:
        with pytest.raises(BudgetError, match=rf"\({told} times the budget of "):
            FeasibleSet(shipped("smoke"), Budget(flops_max=flops)).check()

    def test_the_nearest_of_a_million_networks_is_found_by_draws(self) -> None:
        """Of a narrow window that no network is in: the next one lies 14,060 FLOPs above it, and none lies between."""
        space, low, high = shipped("paper_ablations"), 10**9, 10**9 + 20
        assert FeasibleSet(space, Budget(flops_min=low, flops_max=high)).is_empty
        assert FeasibleSet(space, Budget(flops_min=low, flops_max=high)).nearest().flops == high + 14_060
        assert FeasibleSet(space, Budget(flops_min=low - 14_059, flops_max=high + 14_059)).count == 0
        assert FeasibleSet(space, Budget(flops_min=low - 14_059, flops_max=high + 14_060)).count > 0

    def test_sampling_from_nothing_says_the_same(self) -> None:
        with pytest.raises(BudgetError, match="no network of smoke"):
            FeasibleSet(shipped("smoke"), Budget(flops_max=10**7)).sample(np.random.default_rng(0))

    @pytest.mark.parametrize("name", ["sret_tiny", "sret_small", "smoke", "paper_ablations"])
    @pytest.mark.parametrize(
        ("budget", "advice"),
        [(Budget(flops_max=10**5), [("FLOPs", "flops_max", "raise the {} budget to at least ")]),
         (Budget(params_max=10**3), [("parameters", "params_max", "raise the {} budget to at least ")]),
         (Budget(flops_min=10**12), [("FLOPs", "flops_min", "lower the minimum of {} to at most ")]),
         (Budget(flops_max=10**5, params_max=10**3), [
             ("FLOPs", "flops_max", "raise the {} budget to at least "),
             ("parameters", "params_max", "raise the {} budget to at least "),
         ])],
    )  # fmt: skip
    def test_the_numbers_it_names_are_accepted(
        self, name: str, budget: Budget, advice: list[tuple[str, str, str]]
    ) -> None:
        space = shipped(name)
        with pytest.raises(BudgetError) as caught:
            FeasibleSet(space, budget).check()
        bounds = {}
        for cost, bound, words in advice:
            _, found, rest = str(caught.value).partition(words.format(cost))
            assert found
            bounds[bound] = parse_quantity(rest.replace(",", " ").split()[0])
        FeasibleSet(space, Budget(**bounds)).check()
