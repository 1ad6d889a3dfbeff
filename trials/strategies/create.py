"""A strategy by its name."""

from __future__ import annotations

from collections.abc import Sequence

from .candidates import CandidatePool
from .domain import C, Domain
from .strategy import Strategy, StrategyName


def create_strategy(
    name: StrategyName, domain: Domain[C], objectives: Sequence[str], *, seed: int, population: int
) -> Strategy[C]:
    """A fresh strategy; `population` is NSGA-II's, and the length of the others' start.

    `objectives` name what is told, in order; those that are costs of the domain are known beforehand. Only what is
    asked for is imported, Optuna above all.
    """
    pool = CandidatePool(domain, seed)
    if name in ("nsga2", "nsga2_design", "tpe"):
        from . import optuna

        if name == "tpe":
            return optuna.tpe(pool, len(objectives), seed, population)
        return optuna.nsga2(pool, objectives, seed, population, has_design=name == "nsga2_design")
    if name == "evolution":
        from .evolution import EvolutionStrategy

        return EvolutionStrategy(pool, objectives, seed, population)
    if name == "additive":
        from .additive import AdditiveStrategy

        return AdditiveStrategy(pool, objectives, seed, population)
    if name == "stratified":
        from .stratified import StratifiedStrategy

        return StratifiedStrategy(pool, objectives)
    from .uniform import RandomStrategy

    return RandomStrategy(pool)
