"""The classes and channels of a search's target networks: the images', where neither space nor options state them."""

from __future__ import annotations

from dataclasses import replace

from sret_nas.arch.budget import Budget
from sret_nas.errors import BudgetError
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.space.search_space import SearchSpace

from ..data import PreparedData

_FEWEST = {"classes": 2, "channels": 1}
"""The cheapest target that images can ask for."""

_NAMES = {"classes": ("class", "classes"), "channels": ("channel", "channels")}


def require_possible(space: SearchSpace, budget: Budget) -> None:
    """Raises `BudgetError`, before any image is read, if no images can make a network of the space fit the budget.

    What the space does not state can only make networks more expensive, so its minimum bounds are left for later.
    """
    unstated = _unstated(space)
    if not unstated:
        FeasibleSet(space, budget).check()
        return
    cheapest = _with(space, {name: _FEWEST[name] for name in unstated})
    try:
        FeasibleSet(cheapest, replace(budget, flops_min=None, params_min=None)).check()
    except BudgetError as error:
        words = _describe({name: getattr(cheapest, name) for name in unstated})
        raise BudgetError(f"{error} (for {words}, the fewest that images can have)") from None


def target_for(space: SearchSpace, data: PreparedData) -> tuple[SearchSpace, str | None]:
    """Returns the space for a target that suits the images, and a line on what it took from them; None if nothing.

    What the space states is kept. The result states everything.
    """
    unstated = _unstated(space)
    found = {"classes": data.num_classes, "channels": data.channels}
    taken = {name: found[name] for name in unstated}
    if not taken:
        return space, None
    flags = " and ".join(f"--target-{name}" for name in taken)
    sets = "set others" if len(taken) > 1 else "sets another number"
    return _with(space, taken), f"Target: {_describe(taken)}, as the images have; {flags} {sets}"


def _describe(target: dict[str, int]) -> str:
    """Returns e.g. `10 classes and 1 channel`."""
    return " and ".join(f"{number:,} {_NAMES[name][number > 1]}" for name, number in target.items())


def _unstated(space: SearchSpace) -> list[str]:
    """Returns what its file and the options leave open about the target."""
    return [name for name in _FEWEST if name not in space.model_fields_set]


def _with(space: SearchSpace, changes: dict[str, int]) -> SearchSpace:
    return SearchSpace.from_dict({**space.to_dict(), **changes}, space.name)
