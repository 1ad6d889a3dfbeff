"""Creates a strategy from its name."""

from __future__ import annotations

from collections.abc import Sequence

from .candidates import CandidatePool
from .domain import C, Domain
from .strategy import Strategy, StrategyName


def create_strategy(
    name: StrategyName, domain: Domain[C], objectives: Sequence[str], *, seed: int, population: int
) -> Strategy[C]:
    """Returns a new strategy.

    Args:
        objectives: The names of the values that `tell` takes, in order. Those that are costs of the domain are computed
            exactly, the others are learned.
        population: The population of NSGA-II, and the number of initial trials of other strategies that learn;
            `additive` bounds it.
    """
    # Modules are imported on demand, because importing Optuna takes long.
    pool = CandidatePool(domain, seed)
    if name in ("nsga2", "nsga2_design", "tpe", "gp", "gp_design"):
        from . import optuna

        if name == "tpe":
            return optuna.tpe(pool, len(objectives), seed, population)
        if name in ("gp", "gp_design"):
            return optuna.gp(pool, objectives, seed, population, has_design=name == "gp_design")
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
