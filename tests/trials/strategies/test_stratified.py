"""What is the own of strategies that start with a stratified design."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sret_nas import cost_of
from sret_nas.feasible.feasible_set import FeasibleSet
from tests.trials.strategies.small_strategies import create, table
from trials.strategies.candidates import CandidatePool
from trials.strategies.conformance import TENTH, TINY, run, tiny
from trials.strategies.strategy import Candidate, StrategyName
from trials.strategies.stratified import StratifiedDesign


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
