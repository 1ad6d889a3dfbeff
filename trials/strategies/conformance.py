"""The conformance test of strategies: what everything that proposes candidates keeps to.

To test a strategy of your own, subclass `StrategyContract` in a test module, under a name that pytest collects, and say
how the strategy is created:

    from collections.abc import Sequence

    from sret_nas.trials.strategies.candidates import CandidatePool
    from sret_nas.trials.strategies.conformance import StrategyContract
    from sret_nas.trials.strategies.domain import Domain
    from sret_nas.trials.strategies.strategy import Candidate, Strategy

    from my_package import MyStrategy


    class TestMyStrategy(StrategyContract):
        def create(
            self, domain: Domain[Candidate], objectives: Sequence[str] = ("error", "flops"), seed: int = 0
        ) -> Strategy[Candidate]:
            return MyStrategy(CandidatePool(domain, seed), objectives)

A strategy that draws a start of its own should have a short one here, of about four candidates, because the tests ask
for a few dozen. Needs pytest, and nothing but tests imports it. For failures that show their values, have
`pytest.register_assert_rewrite("sret_nas.trials.strategies.conformance")` in your `conftest.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import bounded_costs, cost_of
from sret_nas.errors import BudgetError
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.space.search_space import SearchSpace

from .domain import Domain
from .sret import SReTDomain
from .strategy import Candidate, Strategy
from .table import TableDomain

TINY = SearchSpace.load("sret_tiny")
SMOKE = SearchSpace.load("smoke")
MIDDLE = SearchSpace.from_dict({
    "name": "middle",
    "stages": [
        {"width": [16, 32], "heads": [1, 2], "blocks": [1, 2], "recursions": [1, 2], "groups": [[4, 1], [2, 2]],
         "nll": ["every", "none"], "mlp_ratio": [1.0, 2.0], "loop": ["internal"], "nll_ratio": [1.0]},
        {"width": [32, 64], "heads": [2], "blocks": [1, 2], "recursions": [1, 2, 3], "groups": [[2, 1, 1]],
         "nll": ["every"], "mlp_ratio": [1.0, 3.0], "loop": ["internal", "external"], "nll_ratio": [0.5]},
    ],
    "depth_schedules": ["full", "joint"],
})  # fmt: skip
"""Few enough networks to be drawn and costed in no time, too many to try them all."""

TENTH = Budget(flops_max=600_000_000)
HALF = Budget(flops_max=85_000_000)
"""Of the middle space."""
BUDGETS = {
    "a tenth of the space": TENTH,
    "one network in thousands": Budget(
        flops_max=612_000_000, flops_min=588_000_000, params_max=2_525_000, params_min=2_475_000
    ),
    "next to the cheapest": Budget(flops_max=110_000_000),
    "a cheap shallowest depth": Budget(flops_max=600_000_000, params_max=2_500_000, shallowest_flops_max=250_000_000),
}
OBJECTIVES = {
    "three": ("error", "flops", "params"),
    "one, unknown": ("error",),
    "cross-entropy against parameters": ("cross_entropy", "params"),
    "two unknown": ("error", "cross_entropy"),
    "one, known": ("flops",),
}

Values = tuple[float, ...]


@cache
def tiny(budget: Budget) -> SReTDomain:
    """Returns networks of `TINY`; the same domain for all tests of a process, so that they are counted once."""
    return SReTDomain(TINY, budget)


@cache
def middle() -> SReTDomain:
    """Returns half of `MIDDLE`; the same domain for all tests of a process."""
    return SReTDomain(MIDDLE, HALF)


def table() -> TableDomain[Candidate]:
    """Returns sixty networks as a table of results."""
    base = tiny(TENTH)
    rng = np.random.default_rng(5)
    return TableDomain(base, [base.draw(rng) for _ in range(60)])


def pretended(candidate: Candidate, objectives: Sequence[str] = ("error", "flops")) -> Values:
    """Returns objective values that reward cost with accuracy, so that a strategy has something to learn."""
    cost = cost_of(candidate.arch)
    error = 1 / cost.params + random.Random(candidate.arch.arch_id).random() * 1e-8
    values = {"error": error, "cross_entropy": 1e3 * error, "flops": cost.flops, "params": cost.params}
    return tuple(float(values[objective]) for objective in objectives)


def run(
    strategy: Strategy[Candidate],
    number: int,
    pending: int = 3,
    failing: int = 7,
    values: Callable[[Candidate], Values] = pretended,
) -> list[Candidate]:
    """Asks `number` times with some trials pending; every `failing`-th trial fails."""
    asked: list[Candidate] = []
    for _ in range(number):
        candidate = strategy.ask()
        if candidate is None:
            break
        asked.append(candidate)
        told = len(asked) - 1 - pending
        if told >= 0:
            strategy.tell(asked[told], None if told % failing == failing - 1 else values(asked[told]))
    return asked


def assert_new_and_inside(asked: Sequence[Candidate], number: int, domain: SReTDomain) -> None:
    assert len({candidate.key for candidate in asked}) == number
    for candidate in asked:
        assert domain.budget.allows(*bounded_costs(candidate.arch))
        assert domain.space.contains(candidate.arch)
        assert candidate.depth_schedule in domain.space.effective_schedules(candidate.arch)


class StrategyContract:
    """What every strategy keeps to. A subclass says how its strategy is created."""

    def create(
        self, domain: Domain[Candidate], objectives: Sequence[str] = ("error", "flops"), seed: int = 0
    ) -> Strategy[Candidate]:
        """Creates the strategy that is tested, which has been told nothing yet.

        Args:
            domain: Where its candidates come from.
            objectives: The names of the values that it will be told, in order. Those that are costs of the domain are
                known beforehand.
            seed: What decides its random choices.
        """
        raise NotImplementedError("each strategy's test class creates its own")

    @pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS.keys())
    def test_it_proposes_only_new_members_inside_the_budget(self, budget: Budget) -> None:
        domain = tiny(budget)
        assert_new_and_inside(run(self.create(domain), 16), 16, domain)

    @pytest.mark.parametrize("objectives", OBJECTIVES.values(), ids=OBJECTIVES.keys())
    def test_it_takes_any_number_of_objectives(self, objectives: tuple[str, ...]) -> None:
        domain = middle()
        asked = run(self.create(domain, objectives), 20, values=lambda candidate: pretended(candidate, objectives))
        assert_new_and_inside(asked, 20, domain)

    @pytest.mark.parametrize(
        "values",
        [(0.5,), (0.0,), (1e300, -1e300), (float("inf"), 0.5, 1.0, 2.0), (float("-inf"), float("inf"), 0.5)],
        ids=["all tied", "all naught", "huge", "one in four infinite", "both infinities"],
    )
    def test_it_bears_any_value(self, values: Values) -> None:
        domain = middle()

        def extreme(candidate: Candidate) -> Values:
            return values[int(candidate.arch.arch_id, 16) % len(values)], float(cost_of(candidate.arch).flops)

        assert_new_and_inside(run(self.create(domain), 20, values=extreme), 20, domain)

    def test_it_runs_sixteen_ahead_and_hears_of_them_in_any_order(self) -> None:
        domain = middle()
        strategy = self.create(domain)
        asked: list[Candidate] = []
        for _ in range(3):
            batch = [candidate for _ in range(16) if (candidate := strategy.ask()) is not None]
            for candidate in reversed(batch):
                strategy.tell(candidate, pretended(candidate))
            asked += batch
        assert_new_and_inside(asked, 48, domain)

    def test_it_goes_on_when_every_trial_fails(self) -> None:
        domain = middle()
        assert_new_and_inside(run(self.create(domain), 24, failing=1), 24, domain)

    def test_it_ends_when_every_candidate_was_asked(self) -> None:
        """The smoke space trains its networks of one recursion one way, the others two ways."""
        budget = Budget(flops_max=70_000_000)
        strategy = self.create(SReTDomain(SMOKE, budget))
        asked = run(strategy, 1000)
        everything = {
            (arch.arch_id, schedule)
            for arch in FeasibleSet(SMOKE, budget)
            for schedule in SMOKE.effective_schedules(arch)
        }
        assert len(asked) == len(everything)
        assert {candidate.key for candidate in asked} == everything
        assert strategy.ask() is None

    @pytest.mark.parametrize("blocks", [[1], [1, 2], [1, 2, 3]], ids=["one", "two", "three"])
    def test_of_one_to_three_networks_it_asks_all(self, blocks: list[int]) -> None:
        stage = {
            "width": [16], "heads": [2], "blocks": blocks, "recursions": [1], "groups": [[1]], "loop": ["internal"],
            "nll": ["none"], "nll_ratio": [1.0], "mlp_ratio": [1.0],
        }  # fmt: skip
        space = SearchSpace.from_dict({"name": "few", "image_size": 16, "stages": [stage]})
        asked = run(self.create(SReTDomain(space, Budget())), 5, pending=0)
        assert sorted(candidate.arch.stages[0].blocks for candidate in asked) == blocks

    def test_of_a_table_it_asks_all_members_and_nothing_else(self) -> None:
        results = table()
        strategy = self.create(results)
        asked = run(strategy, 1000)
        assert len(asked) == len(results.members)
        assert {candidate.key for candidate in asked} == {member.key for member in results.members}
        assert strategy.ask() is None

    def test_equal_seeds_ask_alike_and_others_do_not(self) -> None:
        domain = middle()
        first, again, other = (
            [candidate.key for candidate in run(self.create(domain, seed=seed), 25)] for seed in (1, 1, 2)
        )
        assert first == again
        assert first[:4] != other[:4]
        assert first[4:] != other[4:]

    def test_an_impossible_budget_is_refused_at_once(self) -> None:
        with pytest.raises(BudgetError):
            self.create(SReTDomain(TINY, Budget(flops_max=1_000_000)))
