"""One conformance test for every strategy, and what is Optuna's own."""

from __future__ import annotations

import random

import optuna
import pytest

from sret_nas import Budget, BudgetError, cost_of
from sret_nas.feasible import FeasibleSet
from sret_nas.space import SearchSpace
from trials.strategies import Candidate, Strategy, StrategyName
from trials.strategies.candidates import CandidatePool
from trials.strategies.create import create_strategy
from trials.strategies.optuna import FeasibleSampler, OptunaStrategy
from trials.strategies.sret import SReTDomain

TINY = SearchSpace.load("sret_tiny")
SMOKE = SearchSpace.load("smoke")

BUDGETS = {
    "a tenth of the space": Budget(flops_max=600_000_000),
    "one network in thousands": Budget(
        flops_max=612_000_000, flops_min=588_000_000, params_max=2_525_000, params_min=2_475_000
    ),
    "next to the cheapest": Budget(flops_max=110_000_000),
}


def create(
    name: StrategyName, space: SearchSpace, budget: Budget, seed: int = 0, population: int = 4
) -> Strategy[Candidate]:
    domain = SReTDomain(space, budget)
    return create_strategy(name, domain, ("error", "flops"), seed=seed, population=population)


def pretended_values(candidate: Candidate) -> tuple[float, float]:
    """Objective values that reward cost with accuracy, so that a sampler has something to learn."""
    cost = cost_of(candidate.arch)
    return 1 / cost.params + random.Random(candidate.arch.arch_id).random() * 1e-8, float(cost.flops)


def run(strategy: Strategy[Candidate], number: int, pending: int = 3, failing: int = 7) -> list[Candidate]:
    """Asks `number` times with some trials pending; every `failing`-th trial fails."""
    asked: list[Candidate] = []
    for _ in range(number):
        candidate = strategy.ask()
        if candidate is None:
            break
        asked.append(candidate)
        told = len(asked) - 1 - pending
        if told >= 0:
            strategy.tell(asked[told], None if told % failing == failing - 1 else pretended_values(asked[told]))
    return asked


class StrategyContract:
    name: StrategyName

    @pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS.keys())
    def test_it_proposes_only_new_members_inside_the_budget(self, budget: Budget) -> None:
        asked = run(create(self.name, TINY, budget), 40)
        assert len({candidate.key for candidate in asked}) == 40
        for candidate in asked:
            cost = cost_of(candidate.arch)
            assert budget.allows(cost.flops, cost.params)
            assert TINY.contains(candidate.arch)
            assert candidate.depth_schedule in TINY.effective_schedules(candidate.arch)

    def test_it_ends_when_every_candidate_was_asked(self) -> None:
        """The smoke space trains its networks of one recursion one way, the others two ways."""
        budget = Budget(flops_max=70_000_000)
        strategy = create(self.name, SMOKE, budget)
        asked = run(strategy, 1000)
        everything = {
            (arch.arch_id, schedule)
            for arch in FeasibleSet(SMOKE, budget)
            for schedule in SMOKE.effective_schedules(arch)
        }
        assert {candidate.key for candidate in asked} == everything
        assert strategy.ask() is None

    def test_equal_seeds_ask_alike_and_others_do_not(self) -> None:
        budget = BUDGETS["a tenth of the space"]
        first, again, other = (
            [candidate.key for candidate in run(create(self.name, TINY, budget, seed), 25)] for seed in (1, 1, 2)
        )
        assert first == again
        assert len(set(first) & set(other)) == 0

    def test_an_impossible_budget_is_refused_at_once(self) -> None:
        with pytest.raises(BudgetError):
            create(self.name, TINY, Budget(flops_max=1_000_000))


class TestRandom(StrategyContract):
    name: StrategyName = "random"


class TestNSGA2(StrategyContract):
    name: StrategyName = "nsga2"


class TestTPE(StrategyContract):
    name: StrategyName = "tpe"


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
    run(create(name, TINY, BUDGETS["a tenth of the space"], population=4), 60)
    assert 4 <= pool_draws <= 20  # the start: a population (plus pending and failed trials), or TPE's ten


def test_no_optuna_trial_is_left_running_or_infeasible() -> None:
    strategy = create("tpe", TINY, BUDGETS["a tenth of the space"])
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
    strategy = create("nsga2", SMOKE, Budget(flops_max=58_000_000))
    assert isinstance(strategy, OptunaStrategy)
    run(strategy, 100, pending=0)
    assert optuna.trial.TrialState.RUNNING not in [trial.state for trial in strategy._study.trials]


def test_a_suggestion_outside_the_budget_is_repaired_nearby() -> None:
    """From the dearest network, single changes lead into the budget and keep most of its choices."""
    domain = SReTDomain(TINY, Budget(flops_max=1_000_000_000))
    pool = CandidatePool(domain, seed=0)
    sampler = FeasibleSampler(optuna.samplers.RandomSampler(seed=0), pool, seed=0)
    dearest = {name: choices[-1] for name, choices in TINY.dimensions().items()}
    start = domain.decode(dearest)
    assert start is not None
    assert domain.excess(start) > 0
    repaired = sampler._repaired(dearest)
    assert repaired is not None
    assert pool.is_open(repaired)
