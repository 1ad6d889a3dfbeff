"""What is the additive strategy's own; the shared contract is in test_strategies."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from sret_nas import Budget, cost_of
from sret_nas.pareto import hypervolume
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import shipped
from trials.strategies.additive import AdditiveStrategy
from trials.strategies.additive_settings import AdditiveSettings
from trials.strategies.candidates import CandidatePool
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate, Strategy
from trials.strategies.table import TableDomain

TINY = shipped("sret_tiny")
BUDGET = Budget(flops_max=1_000_000_000)
DOMAIN = SReTDomain(TINY, BUDGET)
SETTINGS = AdditiveSettings()
WORST = 0.9, 1e9
"""The corner that hypervolume is measured from: error and FLOPs."""


def planted(candidate: Candidate) -> tuple[float, float]:
    """Returns error and FLOPs. The error falls with cost; choices add to it or take from it, alike in every stage."""
    cost, error = cost_of(candidate.arch), 0.0
    for stage in candidate.arch.stages:
        error += 0.03 * (stage.mlp_ratio > 3) + 0.05 * (stage.recursions == 2) - 0.04 * (stage.nll == "last")
    error += 0.02 * (candidate.depth_schedule == "joint")
    return 0.2 + error - 0.08 * float(np.log(cost.flops / 1e9)), float(cost.flops)


def searched(
    strategy: Strategy[Candidate], number: int, origins: list[str | None] | None = None
) -> list[tuple[float, float]]:
    """Returns what was found; adds to `origins` where each candidate came from."""
    found = []
    for _ in range(number):
        candidate = strategy.ask()
        assert candidate is not None
        found.append(planted(candidate))
        if origins is not None:
            origins.append(strategy.origin)
        strategy.tell(candidate, found[-1])
    return found


def additive(
    seed: int = 0, objectives: tuple[str, ...] = ("error", "flops"), settings: AdditiveSettings = SETTINGS
) -> AdditiveStrategy[Candidate]:
    return AdditiveStrategy(CandidatePool(DOMAIN, seed), objectives, seed, start=8, settings=settings)


@dataclass(frozen=True)
class Search:
    strategy: AdditiveStrategy[Candidate]
    found: list[tuple[float, float]]
    origins: list[str | None]


@pytest.fixture(scope="module")
def of_forty() -> Search:
    """Returns a search of forty trials. Tests share it and must not change it."""
    strategy, origins = additive(seed=2), list[str | None]()
    return Search(strategy, searched(strategy, 40, origins), origins)


@pytest.mark.slow
def test_it_finds_what_is_planted_long_before_a_search_that_learns_nothing(of_forty: Search) -> None:
    """Forty trials dominate more than 120 of the best search without a model."""
    mine = of_forty.found
    theirs = searched(create_strategy("stratified", DOMAIN, ("error", "flops"), seed=0, population=8), 120)
    assert hypervolume(mine, WORST) > hypervolume(theirs, WORST) + 0.01 * WORST[1]


@pytest.mark.slow
def test_it_comes_to_use_the_additive_model_where_sums_are_the_truth(of_forty: Search) -> None:
    """The process has a part, too: it contains the sums, and where it adds nothing it predicts as well."""
    strategy = of_forty.strategy
    (shares,) = strategy.used[-1]
    assert shares["additive"] > 0.3
    assert shares.get("size", 0.0) < 0.05
    assert len(strategy.used) == 32 // SETTINGS.batch  # rounds after the design of eight


@pytest.mark.slow
def test_it_says_where_a_candidate_comes_from(of_forty: Search) -> None:
    used = of_forty.strategy.used
    rounds = [max(shares, key=lambda name: shares[name]) for (shares,) in used for _ in range(SETTINGS.batch)]
    assert of_forty.origins == ["design"] * 8 + rounds


def test_rounds_grow_with_the_labels() -> None:
    numbers = 12, 99, 100, 249, 250, 10_000
    assert [SETTINGS.batch_of(number, is_listed=False) for number in numbers] == [4, 4, 4, 4, 5, 200]
    assert [SETTINGS.batch_of(number, is_listed=True) for number in numbers] == [1, 1, 2, 4, 5, 200]


@pytest.mark.slow
def test_rounds_stay_large_where_the_best_networks_are_used_up() -> None:
    """Batches are as large as what is known, and a front has a few dozen networks: those behind it fill a round, and
    neighbours of the best."""
    strategy = additive(seed=1, settings=replace(SETTINGS, labels_per_proposal=1, bucket_width_of_rich_stages=0.1))
    searched(strategy, 250)
    assert len(strategy.used) == 5  # after 8, 16, 32, 64 and 128 labels


@pytest.mark.slow
def test_up_to_200_labels_all_is_as_if_rounds_did_not_grow() -> None:
    """To the same candidates; later there are fewer rounds. In a space of few choices a stage."""
    listed = SearchSpace.load("smoke").to_dict()
    stages = [{**stage, "mlp_ratio": [1 + number / 4 for number in range(13)]} for stage in listed["stages"]]
    space = SearchSpace.from_dict({**listed, "stages": stages})

    def asked(settings: AdditiveSettings, number: int) -> tuple[list[tuple[str, str]], int]:
        pool = CandidatePool(SReTDomain(space, Budget()), 0)
        strategy = AdditiveStrategy(pool, ("error", "flops"), 0, start=8, settings=settings)
        keys = []
        for _ in range(number):
            candidate = strategy.ask()
            assert candidate is not None
            keys.append(candidate.key)
            strategy.tell(candidate, planted(candidate))
        return keys, len(strategy.used)

    quick = replace(SETTINGS, draws=8, max_shortlist=60)
    grown, rounds = asked(quick, 276)
    without_limits = replace(
        quick, labels_per_proposal=10**9, max_labels=10**9, max_improvement_steps=10**9,
        refit_growth_of_many=SETTINGS.refit_growth,
    )  # fmt: skip
    fixed, rounds_of_200 = asked(without_limits, 200)
    assert grown[:200] == fixed
    assert rounds_of_200 == (200 - 8) // SETTINGS.batch
    assert rounds < (276 - 8) // SETTINGS.batch


@pytest.mark.slow
def test_the_design_is_cut_short() -> None:
    strategy = AdditiveStrategy(CandidatePool(DOMAIN, 0), ("error", "flops"), 0, start=100)
    searched(strategy, SETTINGS.max_start)
    assert strategy.used == []
    searched(strategy, 1)
    assert len(strategy.used) == 1


@pytest.mark.slow
def test_failed_and_infinite_trials_are_not_learned_from() -> None:
    """Whatever they are told as, what is proposed next is the same; a finite value makes a difference."""

    def proposed_after(values: tuple[float, float] | None) -> list[tuple[str, str]]:
        strategy = additive()
        searched(strategy, 8)
        for _ in range(SETTINGS.batch):
            candidate = strategy.ask()
            assert candidate is not None
            strategy.tell(candidate, values)
        return [candidate.key for candidate in (strategy.ask() for _ in range(SETTINGS.batch)) if candidate is not None]

    after_failures = proposed_after(None)
    assert len(after_failures) == SETTINGS.batch
    for values in ((float("inf"), 1e9), (float("nan"), 1e9), (0.5, float("-inf"))):
        assert proposed_after(values) == after_failures
    assert proposed_after((0.5, 1e9)) != after_failures


def test_costs_alone_are_searched_without_a_model() -> None:
    strategy = additive(objectives=("flops", "params"))
    for _ in range(20):
        candidate = strategy.ask()
        assert candidate is not None
        cost = cost_of(candidate.arch)
        strategy.tell(candidate, (cost.flops, cost.params))
    assert strategy.used == []


def test_effects_by_depth_are_learned_in_spaces_of_many_stages_and_not_in_tables() -> None:
    space = TINY.model_copy(
        update={"stages": (TINY.stages[0], *[TINY.stages[1]] * 3, TINY.stages[2]), "image_size": 128}
    )
    domain = SReTDomain(SearchSpace.model_validate(space.model_dump()), Budget())
    rng = np.random.default_rng(0)
    table = TableDomain(domain, [domain.draw(rng) for _ in range(8)])
    found = []
    for searched_domain in (domain, table, DOMAIN):
        strategy = AdditiveStrategy(CandidatePool(searched_domain, 0), ("error", "flops"), 0, start=8)
        (model,) = strategy._models
        found.append({group.name for group in model._terms[False].groups if group.name.startswith("by depth")})
    assert "by depth mlp_ratio" in found[0]
    assert found[1:] == [set(), set()]
