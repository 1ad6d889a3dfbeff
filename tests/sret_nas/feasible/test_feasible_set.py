from __future__ import annotations

import json
import random
from collections import Counter
from itertools import pairwise, product
from math import prod
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import bounded_costs, cost_of
from sret_nas.arch.parts import StageConfig, StemConfig
from sret_nas.arch.presets import preset
from sret_nas.errors import BudgetError, UserError
from sret_nas.feasible.feasible_set import CostedArch, FeasibleSet
from sret_nas.feasible.overflow import check_costs_fit
from sret_nas.quantities import parse_quantity, round_quantity
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.choices import StageChoices, schedule_of
from sret_nas.space.search_space import SearchSpace, shipped_spaces
from tests.counted_spaces import (
    FIRST,
    FOUR_STAGES,
    HEADS,
    MIDDLING,
    PATCHES,
    RESIDUALS,
    SECOND,
    STEMS,
    THIRD,
    VARIED,
    EveryNetwork,
    chi_square_deviation,
    shipped,
    space_of,
)  # fmt: skip

SPACES = {
    "smoke": shipped("smoke"),
    "one stage": space_of(FIRST),
    "one stage, three stems": space_of({"width": [8, 12]}, stem={"width": [4, 6, 9]}),
    "two stages": space_of(FIRST, THIRD),
    "three stages, two stems": space_of(THIRD, SECOND, THIRD, stem={"width": [8, 12], "strides": [1, 2, 2]}),
    "four stages": FOUR_STAGES,
    "variants": VARIED,
    "variants of patches": PATCHES,
    "all stems": STEMS,
    "all residuals": RESIDUALS,
    "all heads": HEADS,
    "all heads, one stage": space_of(
        {"width": [8, 12], "groups": [[1], [2, 1]], "recursions": [1, 2]},
        head=["average", "class_token"],
        residual=["plain", "path"],
        stem={"kind": ["conv", "patch"]},
    ),
    "all residuals, one stage": space_of({"width": [8, 12]}, residual=["path", "plain", "branch"]),
    "two residuals, two stages": space_of(FIRST, THIRD, residual=["branch", "plain"]),
    "two residuals, four stages": FOUR_STAGES.model_copy(update={"residual": ("branch", "path")}),
}


def stages_of(choices: StageChoices, num_tokens: int) -> list[StageConfig]:
    """Finds the distinct stages by trying every combination."""
    found: dict[StageConfig, StageConfig] = {}
    for combination in product(*(getattr(choices, name) for name in choices.dimensions)):
        values = dict(zip(choices.dimensions, combination, strict=True))
        values["groups"] = schedule_of(values["groups"], values["recursions"])
        try:
            stage = StageConfig(**values).canonical(num_tokens)
        except ValidationError:
            continue
        found[stage] = stage
    return list(found)


def every_network(space: SearchSpace) -> dict[str, CostedArch]:
    """Returns all networks by id, with their costs, by brute force."""
    tables = [stages_of(choices, tokens) for choices, tokens in zip(space.stages, space.num_tokens, strict=True)]
    networks = {}
    for stages in product(*tables):
        widths = space.stem.width or [stages[0].width // 2]
        variants = (widths, space.stem.kind, space.stem.norm, space.residual, space.head)
        for width, kind, norm, residual, head in product(*variants):
            try:
                arch = ArchConfig(
                    stages=stages, image_size=space.image_size, classes=space.classes, drop_path=space.drop_path,
                    stem=StemConfig(width=width, strides=space.stem.strides, kind=kind, norm=norm),
                    residual=residual, head=head,
                )  # fmt: skip
            except ValidationError:  # class tokens where attention does not see all tokens
                continue
            networks[arch.arch_id] = CostedArch(arch, *bounded_costs(arch))
    return networks


UNEVEN = space_of(
    FIRST, {"width": [12], "mlp_ratio": [1.0, 1.5, 2.0, 3.0]},
    {"width": [12], "mlp_ratio": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}, {"width": [16, 24]}, image_size=64,
)  # fmt: skip
FOUR_RESIDUALS = FOUR_STAGES.model_copy(update={"residual": ("branch", "path")})
EVERY_MIDDLING = EveryNetwork(MIDDLING)
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


def inside(networks: dict[str, CostedArch], budget: Budget) -> set[str]:
    return {arch_id for arch_id, network in networks.items() if budget.allows(network.flops, network.params)}


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


@pytest.mark.parametrize(
    ("budget", "max_pairs", "is_exact"),
    [(Budget(flops_max=600_000), 10**6, True), (Budget(flops_max=600_000), 300, False), (Budget(), 300, True)],
)
def test_count_is_plain_data(budget: Budget, max_pairs: int, is_exact: bool) -> None:
    """Python's own numbers and truth values, which go into JSON and YAML; numpy's do not."""
    feasible = FeasibleSet(FOUR_STAGES, budget, max_pairs=max_pairs)
    assert (type(feasible.count), type(feasible.count_is_exact)) == (int, bool)
    assert json.loads(json.dumps([feasible.count, feasible.count_is_exact])) == [feasible.count, is_exact]


def middling_window(first: float, last: float, params: bool = False) -> Budget:
    """Returns a window of MIDDLING's FLOPs between two shares of its networks, and of parameters alike if asked for."""
    flops, quantiles = np.sort(EVERY_MIDDLING.flops), np.sort(EVERY_MIDDLING.params)
    low, high = (int(share * (len(flops) - 1)) for share in (first, last))
    bounds = {"params_min": int(quantiles[low]), "params_max": int(quantiles[high])} if params else {}
    return Budget(flops_min=int(flops[low]), flops_max=int(flops[high]), **bounds)


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


@pytest.mark.parametrize(
    ("value", "down", "up"),
    [(1, "1", "1"), (999, "999", "999"), (57774720, "57.77M", "57.78M"), (57770000, "57.77M", "57.77M"),
     (999999, "999.9K", "1M"), (1000000, "1M", "1M"),
     (9999999999, "9.999G", "10G"), (123456789012, "123.4G", "123.5G")],
)  # fmt: skip
def test_round_quantity(value: int, down: str, up: str) -> None:
    assert (round_quantity(value, up=False), round_quantity(value, up=True)) == (down, up)


@given(st.integers(1, 10**15))
def test_round_quantity_reads_back_on_the_right_side(value: int) -> None:
    down, up = (parse_quantity(round_quantity(value, up=direction)) for direction in (False, True))
    assert down <= value <= up
    assert up - down <= value / 1_000
