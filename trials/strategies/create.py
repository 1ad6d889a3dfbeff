"""A strategy by its name."""

from __future__ import annotations

from sret_nas.budget import Budget
from sret_nas.space import SearchSpace
from trials.strategies import Strategy, StrategyName
from trials.strategies.candidates import CandidatePool
from trials.strategies.uniform import RandomStrategy


def create_strategy(
    name: StrategyName, space: SearchSpace, budget: Budget, *, num_objectives: int, seed: int, population: int
) -> Strategy:
    """A fresh strategy; `population` is NSGA-II's, and the length of TPE's random start.

    Optuna is imported only if it is asked for. Raises `BudgetError` if nothing is feasible.
    """
    pool = CandidatePool(space, budget, seed)
    if name == "random":
        return RandomStrategy(pool)
    from trials.strategies import optuna

    if name == "nsga2":
        return optuna.nsga2(pool, num_objectives, seed, population)
    return optuna.tpe(pool, num_objectives, seed, population)
