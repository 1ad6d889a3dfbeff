"""Checks of what programs give to a feasible set, so that a slip is told where it was made."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.errors import UserError, describe
from sret_nas.space.search_space import SearchSpace


def require_space_and_budget(space: object, budget: object) -> None:
    """Raises `UserError` for what is no search space, or no budget."""
    if not isinstance(space, SearchSpace):
        raise UserError(f"the space must be a SearchSpace, got {describe(space)}: SearchSpace.load reads one")
    require_budget(budget)


def require_budget(budget: object) -> None:
    """Raises `UserError` for what is no budget."""
    if not isinstance(budget, Budget):
        raise UserError(f"the budget must be a Budget, such as Budget(flops_max=10**9), got {describe(budget)}")


def require_one_of(names: Sequence[str], cost: object) -> None:
    """Raises `UserError` for a cost that is none of these."""
    if cost not in names:
        raise UserError(f"the cost must be {' or '.join(names)}, got {describe(cost)}")


def require_draws(rng: object, number: object) -> None:
    """Raises `UserError` for what cannot draw, or for an impossible number of draws."""
    if not isinstance(rng, np.random.Generator):
        raise UserError(f"draws need a generator, such as numpy.random.default_rng(0), got {describe(rng)}")
    if not isinstance(number, Integral) or number < 0:
        raise UserError(f"the number of draws must be a whole number of at least 0, got {describe(number)}")
