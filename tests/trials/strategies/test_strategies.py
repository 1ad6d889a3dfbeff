"""One conformance test for every strategy, and what all of them or several keep to."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import get_args

import pytest

from cli import main
from sret_nas import Budget, cost_of
from tests.counted_spaces import HEADS
from tests.trials.strategies.quick_gp import quick_gp
from tests.trials.strategies.small_strategies import create, table
from trials.strategies.conformance import BUDGETS, StrategyContract, run
from trials.strategies.domain import Domain
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate, Strategy, StrategyName


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
