"""What is the own of strategies that ask Optuna's samplers: budgets, tables, and their trials."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import GPSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from sret_nas import Budget, cost_of
from tests.trials.strategies.small_strategies import create, table
from trials.strategies.candidates import CandidatePool
from trials.strategies.conformance import SMOKE, TENTH, TINY, Values, pretended, run, tiny
from trials.strategies.optuna import FeasibleSampler, OptunaStrategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate, StrategyName
from trials.strategies.stratified import StratifiedDesign


@pytest.mark.slow
def test_gp_design_starts_from_the_design_and_then_asks_the_gaussian_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each suggestion is one of levels, which are numbers, and all of it is inside the budget."""
    suggested: list[dict[str, int]] = []
    suggest = GPSampler.sample_relative

    def recording(self: GPSampler, study: Study, trial: FrozenTrial, space: Any) -> dict[str, Any]:
        params = suggest(self, study, trial, space)
        suggested.extend([params] if params else [])
        return params

    monkeypatch.setattr(GPSampler, "sample_relative", recording)
    domain = SReTDomain(SMOKE, Budget(flops_max=70_000_000))
    asked = run(create("gp_design", domain), 7, pending=0)
    design = StratifiedDesign(CandidatePool(domain, seed=0), "flops")
    assert [candidate.key for candidate in asked[:4]] == [
        candidate.key for _ in range(4) if (candidate := design.draw()) is not None
    ]
    assert len({candidate.key for candidate in asked}) == 7
    assert all(domain.excess(candidate) == 0 for candidate in asked)
    assert len(suggested) == 3
    assert {type(level) for params in suggested for level in params.values()} == {int}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nsga2", "tpe"])
def test_optuna_s_samplers_get_past_their_random_start(name: StrategyName, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suggestions of the sampler itself, redrawn or repaired, make up the later trials, not uniform draws."""
    pool_draws = 0
    draw = CandidatePool.draw

    def counting(self: CandidatePool[Candidate]) -> Candidate | None:
        nonlocal pool_draws
        pool_draws += 1
        return draw(self)

    monkeypatch.setattr(CandidatePool, "draw", counting)
    run(create(name, tiny(TENTH)), 60)
    assert 4 <= pool_draws <= 20  # the start: a population (plus pending and failed trials), or TPE's ten


def test_no_optuna_trial_is_left_running_or_infeasible() -> None:
    strategy = create("tpe", tiny(TENTH))
    assert isinstance(strategy, OptunaStrategy)
    asked = run(strategy, 20, pending=0)
    trials = strategy._study.trials
    states = [trial.state for trial in trials]
    assert states.count(optuna.trial.TrialState.COMPLETE) == 18
    assert states.count(optuna.trial.TrialState.FAIL) == 2  # numbers 6 and 13
    for candidate, trial in zip(asked, trials, strict=True):
        spelled = TINY.decode(trial.params)
        assert spelled is not None
        assert spelled.arch_id == candidate.arch.arch_id
    slack = [v for t in trials for k, v in t.system_attrs.items() if k.endswith(":flops")]
    costs = [cost_of(c.arch).flops for n, c in enumerate(asked) if n not in (6, 13)]
    assert slack == [flops / 600_000_000 - 1 for flops in costs]


def test_exhaustion_leaves_no_optuna_trial_running() -> None:
    strategy = create("nsga2", SReTDomain(SMOKE, Budget(flops_max=58_000_000)))
    assert isinstance(strategy, OptunaStrategy)
    run(strategy, 100, pending=0)
    assert optuna.trial.TrialState.RUNNING not in [trial.state for trial in strategy._study.trials]


def test_a_suggestion_outside_the_budget_is_repaired_nearby() -> None:
    """From the most expensive network, single changes lead into the budget and keep most of its choices."""
    domain = SReTDomain(TINY, Budget(flops_max=1_000_000_000))
    pool = CandidatePool(domain, seed=0)
    sampler = FeasibleSampler(optuna.samplers.RandomSampler(seed=0), pool, seed=0)
    most_expensive = {name: choices[-1] for name, choices in TINY.dimensions().items()}
    start = domain.decode(most_expensive)
    assert start is not None
    assert domain.excess(start) > 0
    repaired = sampler._repaired(most_expensive)
    assert repaired is not None
    assert pool.is_open(repaired)


def test_optuna_s_samplers_take_the_member_that_is_nearest_to_a_suggestion() -> None:
    pool = CandidatePool(table(), seed=0)
    sampler = FeasibleSampler(optuna.samplers.RandomSampler(seed=0), pool, seed=0)
    near, far = table().members[:2]
    spelled = table().encode(near)
    assert sampler._nearest_member(spelled) is near
    pool.claim(near)
    second = sampler._nearest_member(spelled)
    assert second is not None

    def distance(member: Candidate) -> int:
        return sum(value != spelled[name] for name, value in table().encode(member).items())

    assert distance(second) == min(distance(member) for member in table().members if member is not near)
    assert distance(second) < distance(far)


@pytest.mark.slow
def test_nsga2_on_a_table_gets_past_its_random_start() -> None:
    """Its children become members that are near to them, so it finds the front with fewer trials than chance."""
    best = np.argsort([pretended(member)[0] for member in table().members])[:10]
    wanted = {table().members[position].key for position in best}
    found = {}
    for name in ("nsga2", "random"):
        runs = [run(create(name, table(), ("error",), seed, 6), 30, 0, 99, in_error) for seed in range(3)]
        found[name] = sum(len(wanted & {candidate.key for candidate in asked}) for asked in runs)
    assert found["nsga2"] > found["random"]


def in_error(candidate: Candidate) -> Values:
    return pretended(candidate, ("error",))


def test_the_first_parents_of_nsga2_design_are_the_design() -> None:
    """Optuna marks each trial with its generation, and keeps the parents that it chose for the next."""
    domain = tiny(TENTH)
    strategy = create("nsga2_design", domain, population=8)
    assert isinstance(strategy, OptunaStrategy)
    asked = run(strategy, 30, pending=0, failing=99)
    design = StratifiedDesign(CandidatePool(domain, seed=0), "flops")
    expected = [candidate.key for _ in range(8) if (candidate := design.draw()) is not None]
    assert [candidate.key for candidate in asked[:8]] == expected
    trials, study = strategy._study.trials, strategy._study
    generations = [trial.system_attrs["NSGAIISampler:generation"] for trial in trials]
    assert generations == [0] * 8 + [1] * 8 + [2] * 8 + [3] * 6
    parents = study._storage.get_study_system_attrs(study._study_id)["NSGAIISampler:parent:1"]
    assert set(parents) <= {trial._trial_id for trial in trials[:8]}
    assert len(parents) == 8
    uniform = run(create("nsga2", domain, population=8), 8)
    assert [candidate.key for candidate in uniform] != expected
