from __future__ import annotations

import json
import random
from collections import Counter
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sret_nas.arch import ArchConfig, StageConfig, StemConfig
from sret_nas.budget import Budget, parse_quantity
from sret_nas.choices import STAGE_DIMENSIONS, StageChoices, schedule_of
from sret_nas.cost import cost_of
from sret_nas.errors import BudgetError
from sret_nas.feasible import CostedArch, FeasibleSet, round_quantity
from sret_nas.presets import preset
from sret_nas.space import SearchSpace

STAGE: dict[str, Any] = {
    "width": [8], "heads": [2], "blocks": [1], "recursions": [1], "loop": ["internal"], "groups": [[1]],
    "nll": ["none"], "nll_ratio": [1.0], "mlp_ratio": [1.0],
}  # fmt: skip


def space_of(*stages: dict[str, Any], **others: Any) -> SearchSpace:
    data = {"name": "test", "image_size": 32, "classes": 10, "stages": [STAGE | stage for stage in stages]}
    return SearchSpace.from_dict(data | others)


FIRST = {"width": [8, 12], "heads": [2, 3], "blocks": [1, 2], "recursions": [1, 2], "loop": ["internal", "external"],
         "groups": [[2, 1], [1]], "nll": ["every", "none"], "mlp_ratio": [1.0, 2.0]}  # fmt: skip
SECOND = {"width": [12, 16], "heads": [4], "recursions": [1, 2, 3], "groups": [[4], [1]],
          "nll": ["every", "between", "last", "none"], "nll_ratio": [0.5, 1.0]}  # fmt: skip
THIRD = {"width": [16, 24], "heads": [4], "mlp_ratio": [1.0, 2.0]}

MIDDLING = space_of(FIRST, SECOND, THIRD)
FOUR_STAGES = space_of(
    {"width": [8, 12], "mlp_ratio": [1.0, 2.0], "recursions": [1, 2]},
    {"width": [12, 16], "blocks": [1, 2], "nll": ["every", "none"]},
    {"width": [16], "recursions": [1, 2], "nll": ["every", "none"]},
    {"width": [16, 24], "mlp_ratio": [1.0, 2.0]},
    image_size=64, stem={"width": [4, 6]},
)  # fmt: skip
SPACES = {
    "smoke": SearchSpace.load("smoke"),
    "one stage": space_of(FIRST),
    "one stage, three stems": space_of({"width": [8, 12]}, stem={"width": [4, 6, 9]}),
    "two stages": space_of(FIRST, THIRD),
    "three stages, two stems": space_of(THIRD, SECOND, THIRD, stem={"width": [8, 12], "strides": [1, 2, 2]}),
    "four stages": FOUR_STAGES,
}


def stages_of(choices: StageChoices, num_tokens: int) -> list[StageConfig]:
    """The distinct stages, by trying every combination."""
    found: dict[StageConfig, StageConfig] = {}
    for combination in product(*(getattr(choices, name) for name in STAGE_DIMENSIONS)):
        values = dict(zip(STAGE_DIMENSIONS, combination, strict=True))
        values["groups"] = schedule_of(values["groups"], values["recursions"])
        try:
            stage = StageConfig(**values).canonical(num_tokens)
        except ValidationError:
            continue
        found[stage] = stage
    return list(found)


def every_network(space: SearchSpace) -> dict[str, CostedArch]:
    """All networks by id, with their costs, by brute force."""
    tables = [stages_of(choices, tokens) for choices, tokens in zip(space.stages, space.num_tokens, strict=True)]
    networks = {}
    for stages in product(*tables):
        for width in space.stem.width or [stages[0].width // 2]:
            arch = ArchConfig(
                stages=stages, stem=StemConfig(width=width, strides=space.stem.strides),
                image_size=space.image_size, classes=space.classes, drop_path=space.drop_path,
            )  # fmt: skip
            cost = cost_of(arch)
            networks[arch.arch_id] = CostedArch(arch, cost.flops, cost.params)
    return networks


BRUTE_FORCE: dict[str, dict[str, CostedArch]] = {}


@pytest.fixture(params=SPACES)
def case(request: pytest.FixtureRequest) -> tuple[SearchSpace, dict[str, CostedArch]]:
    name = request.param
    if name not in BRUTE_FORCE:
        BRUTE_FORCE[name] = every_network(SPACES[name])
    return SPACES[name], BRUTE_FORCE[name]


@pytest.fixture(scope="module")
def middling() -> dict[str, CostedArch]:
    return every_network(MIDDLING)


def budgets_around(networks: dict[str, CostedArch], number: int) -> list[Budget]:
    """Budgets of every form whose bounds are costs that occur, or lie one beside them."""
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
            (feasible.cheapest("flops"), by_flops[0]), (feasible.dearest("flops"), by_flops[-1]),
            (feasible.cheapest("params"), by_params[0][::-1]), (feasible.dearest("params"), by_params[-1][::-1]),
        ):  # fmt: skip
            assert end[1:] == expected
            assert networks[end.arch.arch_id][1:] == expected

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


class TestUniformDraws:
    """Pearson's chi-square over all feasible networks: with df degrees of freedom it is df +- sqrt(2 df)."""

    @staticmethod
    def deviation(feasible: FeasibleSet, expected: set[str], number: int) -> float:
        drawn = Counter(arch.arch_id for arch in feasible.sample_many(np.random.default_rng(1), number))
        assert set(drawn) <= expected
        mean = number / len(expected)
        chi_square = sum((drawn[arch_id] - mean) ** 2 / mean for arch_id in expected)
        df = len(expected) - 1
        return float((chi_square - df) / (2 * df) ** 0.5)

    def test_space_of_32640_networks(self, middling: dict[str, CostedArch]) -> None:
        assert len(middling) == MIDDLING.num_networks == 120 * 68 * 4
        flops = sorted(network.flops for network in middling.values())
        params = sorted(network.params for network in middling.values())
        budget = Budget(
            flops_min=flops[12_000], flops_max=flops[16_000], params_min=params[8_000], params_max=params[18_000]
        )
        expected = inside(middling, budget)
        feasible = FeasibleSet(MIDDLING, budget)
        assert feasible.count == len(expected) > 1_000
        assert abs(self.deviation(feasible, expected, 10_000)) < 4

    def test_where_proposals_fail(self, middling: dict[str, CostedArch], monkeypatch: pytest.MonkeyPatch) -> None:
        """With one proposal for a pair of cells, most pairs are chosen among all that fit."""
        monkeypatch.setattr("sret_nas.cost_table._PROPOSALS", 1)
        flops = sorted(network.flops for network in middling.values())
        budget = Budget(flops_min=flops[12_000], flops_max=flops[12_400])
        assert abs(self.deviation(FeasibleSet(MIDDLING, budget), inside(middling, budget), 4_000)) < 4

    @pytest.mark.parametrize("max_pairs", [10**6, 300])
    def test_four_stages_exact_and_rounded(self, max_pairs: int) -> None:
        networks = every_network(FOUR_STAGES)
        flops = sorted(network.flops for network in networks.values())
        budget = Budget(flops_min=flops[len(flops) // 3], flops_max=flops[len(flops) // 2])
        expected = inside(networks, budget)
        feasible = FeasibleSet(FOUR_STAGES, budget, max_pairs=max_pairs)
        assert feasible.count_is_exact == (max_pairs == 10**6)
        assert abs(self.deviation(feasible, expected, 2_000)) < 4

    def test_seed_decides(self) -> None:
        feasible = FeasibleSet(MIDDLING, Budget(flops_max=600_000))
        first, again = (feasible.sample_many(np.random.default_rng(3), 5) for _ in range(2))
        assert first == again
        assert first != feasible.sample_many(np.random.default_rng(4), 5)


class TestRoundedTable:
    """A table of few cells, as a space needs that is too rich to be counted exactly."""

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

    def test_a_window_too_narrow_is_refused_and_does_not_hang(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sret_nas.feasible.MAX_TRIES", 3)
        networks = every_network(FOUR_STAGES)
        rarest = min(Counter(network.flops for network in networks.values()).items(), key=lambda item: item[1])[0]
        feasible = FeasibleSet(FOUR_STAGES, Budget(flops_min=rarest, flops_max=rarest), max_pairs=300)
        assert not feasible.is_empty
        with pytest.raises(BudgetError, match=r"3 draws from test all missed the budget .*: the space is too rich"):
            feasible.sample_many(np.random.default_rng(0), 50)


class TestRareWindows:
    def test_one_network(self, middling: dict[str, CostedArch]) -> None:
        costs = Counter(network[1:] for network in middling.values())
        only = next(network for network in middling.values() if costs[network[1:]] == 1)
        budget = Budget(flops_min=only.flops, flops_max=only.flops, params_min=only.params, params_max=only.params)
        feasible = FeasibleSet(MIDDLING, budget)
        assert feasible.count == 1
        assert [arch.arch_id for arch in feasible] == [only.arch.arch_id]
        assert feasible.sample(np.random.default_rng(0)).arch_id == only.arch.arch_id

    def test_one_in_a_hundred_million(self) -> None:
        space, cost = SearchSpace.load("sret_tiny"), cost_of(preset("sret_t"))
        budget = Budget(flops_min=cost.flops, flops_max=cost.flops, params_min=cost.params, params_max=cost.params)
        feasible = FeasibleSet(space, budget)
        assert 0 < feasible.count < space.num_networks / 1e8
        assert feasible.count == len({arch.arch_id for arch in feasible})
        assert preset("sret_t").arch_id in {arch.arch_id for arch in feasible}
        for arch in feasible.sample_many(np.random.default_rng(0), 20):
            assert (cost_of(arch).flops, cost_of(arch).params) == (cost.flops, cost.params)


class TestShippedSpaces:
    @pytest.mark.parametrize(
        ("name", "budget"),
        [("sret_tiny", Budget(flops_max=10**9)), ("sret_tiny", Budget(flops_max=6 * 10**8, params_max=3 * 10**6)),
         ("sret_small", Budget(flops_max=42 * 10**8, params_max=21 * 10**6)),
         ("paper_ablations", Budget(flops_max=10**9))],
    )  # fmt: skip
    def test_count_is_exact_and_agrees_with_random_networks(self, name: str, budget: Budget) -> None:
        """The share of networks drawn without the budget estimates the count, to 5 standard deviations."""
        space = SearchSpace.load(name)
        feasible = FeasibleSet(space, budget)
        assert feasible.count_is_exact
        rng, number = np.random.default_rng(0), 2_000
        tables = space.stage_choices
        anywhere = [space.network([int(rng.integers(len(table))) for table in tables]) for _ in range(number)]
        hits = sum(budget.allows(cost_of(arch).flops, cost_of(arch).params) for arch in anywhere)
        share = feasible.count / space.num_networks
        assert hits / number == pytest.approx(share, abs=5 * (share * (1 - share) / number) ** 0.5)
        for arch in feasible.sample_many(rng, 50):
            assert budget.allows(cost_of(arch).flops, cost_of(arch).params)
            assert space.contains(arch)


class TestCheck:
    def test_says_nothing_about_a_budget_that_can_be_met(self) -> None:
        FeasibleSet(SearchSpace.load("smoke"), Budget(flops_max=10**8)).check()

    def test_text(self) -> None:
        with pytest.raises(BudgetError) as caught:
            FeasibleSet(SearchSpace.load("smoke"), Budget(flops_max=10**7)).check()
        assert str(caught.value) == (
            "no network of smoke (at 224 px) has FLOPs at most 10M; the nearest has 56.23M FLOPs (5.622 times the "
            "budget of 10M) and 159.2K parameters; raise the FLOPs budget to at least 56.23M, or use another search "
            "space"
        )

    def test_sampling_from_nothing_says_the_same(self) -> None:
        with pytest.raises(BudgetError, match="no network of smoke"):
            FeasibleSet(SearchSpace.load("smoke"), Budget(flops_max=10**7)).sample(np.random.default_rng(0))

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
        space = SearchSpace.load(name)
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
