"""One conformance test for every strategy, and what is each one's own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, get_args

import numpy as np
import optuna
import pytest
from optuna.samplers import GPSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from cli import main
from sret_nas import Budget, cost_of
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.pareto import hypervolume
from tests.counted_spaces import HEADS
from tests.trials.strategies.quick_gp import quick_gp
from trials.strategies import conformance
from trials.strategies.candidates import CandidatePool
from trials.strategies.conformance import (
    BUDGETS,
    SMOKE,
    TENTH,
    TINY,
    StrategyContract,
    Values,
    middle,
    pretended,
    run,
    tiny,
)
from trials.strategies.create import create_strategy
from trials.strategies.domain import Domain
from trials.strategies.evolution import BATCH, GENERATIONS, EvolutionStrategy, Individuals
from trials.strategies.optuna import FeasibleSampler, OptunaStrategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate, Strategy, StrategyName
from trials.strategies.stratified import StratifiedDesign
from trials.strategies.table import TableDomain

table = cache(conformance.table)


def create(
    name: StrategyName,
    domain: Domain[Candidate],
    objectives: Sequence[str] = ("error", "flops"),
    seed: int = 0,
    population: int = 4,
) -> Strategy[Candidate]:
    return create_strategy(name, domain, objectives, seed=seed, population=population)


class NamedStrategy(StrategyContract):
    name: StrategyName

    def create(
        self, domain: Domain[Candidate], objectives: Sequence[str] = ("error", "flops"), seed: int = 0
    ) -> Strategy[Candidate]:
        return create(self.name, domain, objectives, seed)

    @pytest.mark.slow
    @pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS.keys())
    def test_it_proposes_only_new_members_inside_the_budget(self, budget: Budget) -> None:
        super().test_it_proposes_only_new_members_inside_the_budget(budget)


class TestRandom(NamedStrategy):
    name: StrategyName = "random"


class TestStratified(NamedStrategy):
    name: StrategyName = "stratified"


class TestNSGA2(NamedStrategy):
    name: StrategyName = "nsga2"


class TestNSGA2Design(NamedStrategy):
    name: StrategyName = "nsga2_design"


class TestTPE(NamedStrategy):
    name: StrategyName = "tpe"


@pytest.mark.slow
class TestGP(NamedStrategy):
    """With a long start: a suggestion of the Gaussian process takes a tenth of a second."""

    name: StrategyName = "gp"
    population = 14

    @pytest.fixture(autouse=True)
    def _quick(self) -> Iterator[None]:
        with quick_gp():
            yield

    def create(
        self, domain: Domain[Candidate], objectives: Sequence[str] = ("error", "flops"), seed: int = 0
    ) -> Strategy[Candidate]:
        return create(self.name, domain, objectives, seed, self.population)

    def test_it_runs_sixteen_ahead_and_hears_of_them_in_any_order(self) -> None:
        """All but the last sixteen from the start."""
        self.population = 32
        super().test_it_runs_sixteen_ahead_and_hears_of_them_in_any_order()

    def test_equal_seeds_ask_alike_and_others_do_not(self) -> None:
        """All but the last three from the start."""
        self.population = 17
        super().test_equal_seeds_ask_alike_and_others_do_not()

    def test_it_ends_when_every_candidate_was_asked(self) -> None:
        """All of them from the start: suggestions for the last of hundreds would take minutes."""
        self.population = 1000
        super().test_it_ends_when_every_candidate_was_asked()

    def test_of_a_table_it_asks_all_members_and_nothing_else(self) -> None:
        """All but the last few from the start."""
        self.population = 52
        super().test_of_a_table_it_asks_all_members_and_nothing_else()


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
class TestEvolution(NamedStrategy):
    name: StrategyName = "evolution"


@pytest.mark.slow
class TestAdditive(NamedStrategy):
    name: StrategyName = "additive"


def asked_of_the_table(name: StrategyName) -> list[str]:
    """Returns what another process must ask alike; the table leaves nothing out and costs little.

    Of a Gaussian process, whose suggestions take long, only the start and two more.
    """
    number = 6 if name in ("gp", "gp_design") else 14
    with quick_gp():
        return [candidate.arch.arch_id for candidate in run(create(name, table(), seed=3), number, pending=0)]


@pytest.mark.slow
def test_every_strategy_asks_alike_in_another_process() -> None:
    names = get_args(StrategyName)
    program = (
        "from tests.trials.strategies.test_strategies import asked_of_the_table\n"
        f"for name in {names}: print(name, *asked_of_the_table(name))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines() == [" ".join([name, *asked_of_the_table(name)]) for name in names]


@pytest.mark.slow
def test_our_own_strategies_do_without_optuna_and_torch() -> None:
    program = (
        "import sys\n"
        "from sret_nas import Budget, SearchSpace\n"
        "from trials.strategies.create import create_strategy\n"
        "from trials.strategies.sret import SReTDomain\n"
        "domain = SReTDomain(SearchSpace.load('smoke'), Budget())\n"
        "for name in ('random', 'stratified', 'evolution', 'additive', 'tpe'):\n"
        "    create_strategy(name, domain, ('error', 'flops'), seed=0, population=2).ask()\n"
        "    print(name, *(package for package in ('optuna', 'torch') if package in sys.modules))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines() == ["random", "stratified", "evolution", "additive", "tpe optuna"]


def test_the_command_line_offers_every_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["search", "--strategy", "luck"])
    offered = capsys.readouterr().err.partition("choose from ")[2]
    assert set(re.findall(r"\w+", offered)) == set(get_args(StrategyName))


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


def bins_of(costs: Sequence[float], low: float, high: float, number: int = 16) -> list[int]:
    """Returns bins of equal width in the logarithm, by formula."""
    return [min(int(number * np.log(cost / low) / np.log(high / low)), number - 1) for cost in costs]


@pytest.mark.parametrize("name", ["stratified", "nsga2_design", "evolution"])
def test_a_start_has_one_candidate_per_stratum_in_every_round(name: StrategyName) -> None:
    domain = tiny(TENTH)
    cheapest = FeasibleSet(TINY, TENTH).cheapest().flops
    asked = run(create(name, domain, population=32), 32)
    costs = [cost_of(candidate.arch).flops for candidate in asked]
    for part in (costs[:16], costs[16:]):
        assert sorted(bins_of(part, cheapest, 600_000_000)) == list(range(16))
        assert part != sorted(part)


def test_the_cost_to_spread_is_the_first_among_the_objectives() -> None:
    """By parameters, the members of a table are spread over parameters."""
    members = table().members
    params = [cost_of(member.arch).params for member in members]
    stratum = dict(zip((m.key for m in members), bins_of(params, min(params), max(params)), strict=True))
    filled = len(set(stratum.values()))
    asked = run(create("stratified", table(), ("error", "params", "flops")), filled)
    assert {stratum[candidate.key] for candidate in asked} == set(stratum.values())
    unknown = run(create("stratified", table(), ("error",)), filled)
    by_flops = run(create("stratified", table(), ("error", "flops")), filled)
    assert [candidate.key for candidate in unknown] == [candidate.key for candidate in by_flops]


def test_a_stratum_that_is_used_up_leaves_the_others_evenly_drawn() -> None:
    pool = CandidatePool(table(), seed=1)
    design = StratifiedDesign(pool, "flops")
    drawn: list[Candidate] = []
    while (candidate := design.draw()) is not None:
        pool.claim(candidate)
        drawn.append(candidate)
    assert {candidate.key for candidate in drawn} == {member.key for member in table().members}
    assert len(drawn) == len(table().members)


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


@pytest.mark.parametrize(
    "name",
    [
        "random",
        "stratified",
        "nsga2",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("additive", "evolution", "tpe")),
    ],
)
def test_variants_of_the_network_are_searched(name: StrategyName) -> None:
    """In a space where many spellings are no network, since class tokens need a last stage that sees all tokens."""
    domain = SReTDomain(HEADS, Budget(params_max=4_000))
    strategy, seen = create(name, domain, seed=1, population=8), list[Candidate]()
    for _ in range(30):
        candidate = strategy.ask()
        assert candidate is not None
        assert domain.excess(candidate) == 0
        assert domain.candidate(domain.point(candidate)) == candidate
        seen.append(candidate)
        error = 0.5 - 0.2 * (candidate.arch.head == "class_token") - 0.1 * (candidate.arch.residual == "plain")
        strategy.tell(candidate, (error, float(cost_of(candidate.arch).flops)))
    assert len({candidate.key for candidate in seen}) == 30
    assert {candidate.arch.head for candidate in seen} == set(HEADS.head)
    assert {candidate.arch.residual for candidate in seen} == set(HEADS.residual)
    if name == "additive":
        late = [(candidate.arch.head, candidate.arch.residual) for candidate in seen[-10:]]
        assert late.count(("class_token", "plain")) >= 5
