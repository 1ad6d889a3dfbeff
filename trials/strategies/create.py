"""A strategy by its name."""

from __future__ import annotations

from collections.abc import Sequence

from trials.strategies import Strategy, StrategyName
from trials.strategies.candidates import CandidatePool
from trials.strategies.domain import C, Domain


def create_strategy(
    name: StrategyName, domain: Domain[C], objectives: Sequence[str], *, seed: int, population: int
) -> Strategy[C]:
    """A fresh strategy; `population` is NSGA-II's, and the length of the others' start.

    `objectives` name what is told, in order; those that are costs of the domain are known beforehand. Optuna is
    imported only if it is asked for.
    """
    from trials.strategies.uniform import RandomStrategy

    pool = CandidatePool(domain, seed)
    if name == "random":
        return RandomStrategy(pool)
    from trials.strategies import optuna

    if name == "nsga2":
        return optuna.nsga2(pool, len(objectives), seed, population)
    return optuna.tpe(pool, len(objectives), seed, population)
