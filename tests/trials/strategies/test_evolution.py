"""What is the evolution's own: its model, its children, and its batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sret_nas import cost_of
from sret_nas.pareto import hypervolume
from tests.trials.strategies.small_strategies import create
from trials.strategies.conformance import BUDGETS, Values, middle, run, tiny
from trials.strategies.evolution import BATCH, GENERATIONS, EvolutionStrategy, Individuals
from trials.strategies.strategy import Candidate
from trials.strategies.table import TableDomain


def landscape(candidate: Candidate) -> Values:
    """Returns an error that falls with cost and with the product of neighbouring choices."""
    first, *_, last = candidate.arch.stages
    penalty = 0.3 * first.recursions + 0.2 * (last.loop == "internal") - 0.05 * last.mlp_ratio
    cost = cost_of(candidate.arch)
    return penalty - np.log(cost.params) / 4, float(cost.flops)


def volume(asked: Sequence[Candidate], most: float) -> float:
    points = np.array([landscape(candidate) for candidate in asked])
    return hypervolume(points / [1, most], [0.0, 1.0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_evolution_finds_more_than_its_start_and_no_model(seed: int) -> None:
    domain = middle()
    volumes = {
        name: volume(run(create(name, domain, seed=seed, population=16), 46, 0, 99, landscape), 85_000_000)
        for name in ("random", "stratified", "evolution")
    }
    assert volumes["evolution"] > volumes["stratified"] > volumes["random"]
    everyone = volume(list(domain), 85_000_000)
    assert volumes["evolution"] > 0.97 * everyone


def test_evolution_predicts_all_members_of_a_table() -> None:
    """An error that adds over features is learned from half of the labels: the best members come next."""

    def additive(candidate: Candidate) -> Values:
        return (sum(stage.recursions - 0.3 * stage.mlp_ratio for stage in candidate.arch.stages),)

    base = middle()
    rng = np.random.default_rng(0)
    results = TableDomain(base, [base.draw(rng) for _ in range(120)])
    asked = run(create("evolution", results, ("error",), population=60), 60 + BATCH, 0, 99, additive)
    start = {candidate.key for candidate in asked[:60]}
    left = sorted(additive(member)[0] for member in results.members if member.key not in start)
    assert sorted(additive(candidate)[0] for candidate in asked[60:]) == pytest.approx(left[:BATCH])


@pytest.mark.slow
def test_evolution_breeds_also_in_a_narrow_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """One network in thousands fits, and of children with two parents few; mutants of one parent keep it going."""
    domain = tiny(BUDGETS["one network in thousands"])
    strategy = create("evolution", domain, population=8)
    assert isinstance(strategy, EvolutionStrategy)
    bred: list[int] = []
    children = strategy._children

    def counting(parents: Individuals[Candidate]) -> Individuals[Candidate]:
        found = children(parents)
        bred.append(len(found))
        return found

    monkeypatch.setattr(strategy, "_children", counting)
    monkeypatch.setattr(strategy._design, "draw", exactly(8, strategy._design.draw))
    run(strategy, 8 + 2 * BATCH, 0, 99, landscape)
    assert len(bred) == 2 * GENERATIONS
    assert min(bred) > 20


def exactly(times: int, draw: Callable[[], Candidate | None]) -> Callable[[], Candidate | None]:
    """Returns the function, until it was called so often; then it fails the test."""
    left = iter(range(times))

    def limited() -> Candidate | None:
        assert next(left, None) is not None, f"drawn more than {times} times"
        return draw()

    return limited


@pytest.mark.slow
def test_evolution_runs_ahead_within_one_batch_and_then_fits_anew() -> None:
    """What it is told decides the next fit, not the proposals that are queued."""

    def upside_down(candidate: Candidate) -> Values:
        return -landscape(candidate)[0], landscape(candidate)[1]

    domain = middle()
    asked = []
    for told in (landscape, upside_down):
        strategy = create("evolution", domain, population=12)
        start = run(strategy, 12, 0, 99, landscape)
        first = [candidate for _ in range(BATCH) if (candidate := strategy.ask()) is not None]
        for candidate in first:
            strategy.tell(candidate, told(candidate))
        then = [candidate for _ in range(BATCH) if (candidate := strategy.ask()) is not None]
        asked.append([[candidate.key for candidate in part] for part in (start, first, then)])
    assert asked[0][:2] == asked[1][:2]
    assert asked[0][2] != asked[1][2]
