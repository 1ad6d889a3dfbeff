"""Strategies over small domains, for tests of what each does by itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from trials.strategies import conformance
from trials.strategies.create import create_strategy
from trials.strategies.domain import Domain
from trials.strategies.strategy import Candidate, Strategy, StrategyName

table = cache(conformance.table)


def create(
    name: StrategyName,
    domain: Domain[Candidate],
    objectives: Sequence[str] = ("error", "flops"),
    seed: int = 0,
    population: int = 4,
) -> Strategy[Candidate]:
    return create_strategy(name, domain, objectives, seed=seed, population=population)
