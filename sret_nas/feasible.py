"""The networks of a search space that lie inside a budget: how many, which, and drawn uniformly.

Costs are algebra. FLOPs and parameters of a network are sums over its stages, tied only through the widths of
neighbours (the pooling between them), so nothing has to be tried and rejected: a `CostTable` counts the networks in a
window of costs, and draws from them, exactly.

In a space too rich for that (`MAX_PAIRS`), which no shipped one is, the table is rounded and counts a superset. Draws
from it are kept if the true cost is inside the budget, so they stay uniform over its networks; the count is the
superset's times the share that is kept, an estimate, and `count_is_exact` is False.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from math import ceil
from typing import Literal, NamedTuple

import numpy as np

from sret_nas.arch import ArchConfig
from sret_nas.budget import Budget, format_quantity
from sret_nas.choice_costs import choice_costs_of
from sret_nas.cost_cells import FloatArray, Window
from sret_nas.cost_table import MAX_PAIRS, CostTable, cost_table_of
from sret_nas.errors import BudgetError
from sret_nas.extremes import closer_than, nearest_end, undominated_networks
from sret_nas.space import SearchSpace

CostName = Literal["flops", "params"]
"""A cost that networks are ordered by: multiply-adds for one image, or parameters."""

MAX_TRIES = 2_000
"""Draws from the superset of a rounded table before a window counts as too narrow to draw from."""

_ESTIMATE_DRAWS = 200
"""Draws from the superset of a rounded table that estimate a count."""

_FEW = 1_000
"""Networks of a set up to which `nearest` looks at all of them; of more, it looks at `_BATCH` draws."""

_BATCH = 64
"""Draws that `nearest` looks at before it narrows the window to those that are closer."""


class CostedArch(NamedTuple):
    """An architecture with its FLOPs and parameters."""

    arch: ArchConfig
    flops: int
    params: int


class FeasibleSet:
    """The networks of a space whose true costs lie inside a budget.

    Building it costs nothing; what it is asked for is computed once. `max_pairs` bounds time and memory (see
    `sret_nas.cost_table`); spaces that need no more are answered exactly.
    """

    def __init__(self, space: SearchSpace, budget: Budget, *, max_pairs: int = MAX_PAIRS) -> None:
        self.space = space
        self.budget = budget
        self._max_pairs = max_pairs
        self._costs = choice_costs_of(space)

    @cached_property
    def _table(self) -> CostTable:
        budget = self.budget
        is_bounded = (
            (budget.flops_min or budget.flops_max) is not None,
            (budget.params_min or budget.params_max) is not None,
        )
        return cost_table_of(self.space, is_bounded, self._max_pairs)

    @cached_property
    def _window(self) -> Window:
        return self._table.widened(Window.of(self.budget))

    @cached_property
    def _weights(self) -> FloatArray:
        """Networks in the window by width path and last cell, of shape (paths, last cells); a superset if rounded."""
        weights: FloatArray = self._table.completions(self._window) * self._table.last_number
        return weights

    @cached_property
    def _cumulated_weights(self) -> FloatArray:
        return np.cumsum(self._weights)

    @property
    def count_is_exact(self) -> bool:
        """Whether `count` is exact; otherwise it is an estimate from draws."""
        return self._table.is_exact or self._is_unbounded

    @property
    def _is_unbounded(self) -> bool:
        return self.budget == Budget()

    @cached_property
    def count(self) -> int:
        """How many distinct networks lie inside the budget."""
        if self._is_unbounded:
            return self.space.num_networks
        if self._table.is_exact:
            return sum(map(int, self._weights.ravel()))
        rng = np.random.default_rng(0)
        kept = sum(self._draw(rng) is not None for _ in range(_ESTIMATE_DRAWS)) if self._weights.any() else 0
        return round(float(self._weights.sum()) * kept / _ESTIMATE_DRAWS)

    @property
    def share(self) -> float:
        """The share of the space's networks that lie inside the budget."""
        return self.count / self.space.num_networks

    def _draw(self, rng: np.random.Generator) -> tuple[int, ...] | None:
        """The choices of one network, uniformly over those whose rounded costs fit; None if its true costs do not."""
        total = self._cumulated_weights
        place = int(np.searchsorted(total, rng.random() * total[-1], side="right").clip(max=len(total) - 1))
        path, last = divmod(place, self._weights.shape[1])
        choices = self._table.draw(path, last, self._window, rng)
        if choices is None:
            return None
        choices = choices[-len(self.space.stages) :]
        return choices if self.budget.allows(*self._costs.cost(choices)) else None

    def sample(self, rng: np.random.Generator) -> ArchConfig:
        """One network of the set, each with the same probability; about 2 ms. Raises `BudgetError` if it is empty.

        In a space too rich to be counted exactly, it also raises `BudgetError` if the window is so narrow beside the
        rounding that `MAX_TRIES` draws all miss it.
        """
        return self.sample_many(rng, 1)[0]

    def sample_many(self, rng: np.random.Generator, number: int) -> list[ArchConfig]:
        """Independent draws of `sample`; the same network may come twice."""
        self.check()
        return [self._costs.network(self.space, self._draw_inside(rng)) for _ in range(number)]

    def _draw_inside(self, rng: np.random.Generator) -> tuple[int, ...]:
        for _ in range(MAX_TRIES):
            choices = self._draw(rng)
            if choices is not None:
                return choices
        raise BudgetError(
            f"{MAX_TRIES} draws from {self.space.name} all missed the budget ({self.budget.describe()}): the space is "
            "too rich for a window this narrow; widen the budget or list fewer values"
        )

    def __iter__(self) -> Iterator[ArchConfig]:
        """All networks of the set, each once, in a fixed order. Ask for `count` first: there may be 1e12."""
        for choices in self._choices():
            yield self._costs.network(self.space, choices)

    def _choices(self) -> Iterator[tuple[int, ...]]:
        for path, last in np.argwhere(self._weights > 0).tolist():
            for choices in self._table.members(path, last, self._window):
                choices = choices[-len(self.space.stages) :]
                if self.budget.allows(*self._costs.cost(choices)):
                    yield choices

    def cheapest(self, by: CostName = "flops") -> CostedArch:
        """The network of the whole space with the fewest FLOPs or parameters; of several, the fewest of the other."""
        return self._end(by, sign=1)

    def dearest(self, by: CostName = "flops") -> CostedArch:
        """The network of the whole space with the most FLOPs or parameters; of several, the most of the other."""
        return self._end(by, sign=-1)

    def _end(self, by: CostName, sign: int) -> CostedArch:
        def order(choices: tuple[int, ...]) -> tuple[int, int]:
            flops, params = self._costs.cost(choices)
            return (sign * flops, sign * params) if by == "flops" else (sign * params, sign * flops)

        return self._costed(min(undominated_networks(self.space, (sign, sign)), key=order))

    def _costed(self, choices: tuple[int, ...]) -> CostedArch:
        return CostedArch(self._costs.network(self.space, choices), *self._costs.cost(choices))

    @cached_property
    def _nearest_end(self) -> CostedArch:
        return self._costed(nearest_end(self.space, self.budget))

    @property
    def _has_two_sides(self) -> bool:
        budget = self.budget
        return None not in (budget.flops_min, budget.flops_max) or None not in (budget.params_min, budget.params_max)

    @property
    def is_empty(self) -> bool:
        """Whether no network lies inside the budget; known at once unless a cost has both a minimum and a budget.

        Where the count is an estimate and a cost has both, False means only that there is no proof.
        """
        if self.budget.allows(self._nearest_end.flops, self._nearest_end.params):
            return False
        return not self._has_two_sides or not self._weights.any()

    def nearest(self) -> CostedArch:
        """The network with the least `Budget.excess`: one inside the budget if there is one.

        Exact, but for spaces that are too rich to be counted exactly and a cost with both a minimum and a budget: there
        it is the best that draws find.
        """
        best = self._nearest_end
        if not self._has_two_sides:
            return best
        while not self.budget.allows(best.flops, best.params):
            found = self._with(closer_than(self.budget, best.flops, best.params))._some()
            if not found:
                return best
            best = min(found, key=lambda costed: self.budget.excess(costed.flops, costed.params))
        return best

    def _with(self, budget: Budget) -> FeasibleSet:
        return FeasibleSet(self.space, budget, max_pairs=self._max_pairs)

    def _some(self) -> list[CostedArch]:
        """All networks of the set if they are few, otherwise some of them."""
        if self._weights.sum() <= _FEW:
            return [self._costed(choices) for choices in self._choices()]
        rng = np.random.default_rng(0)
        draws = [self._draw(rng) for _ in range(_BATCH)]
        return [self._costed(choices) for choices in draws if choices is not None]

    def check(self) -> None:
        """Raises `BudgetError` with the nearest network that is possible if no network lies inside the budget."""
        if not self.is_empty:
            return
        near, budget = self.nearest(), self.budget
        flops, flops_advice = _quote("FLOPs", near.flops, budget.flops_min, budget.flops_max)
        params, params_advice = _quote("parameters", near.params, budget.params_min, budget.params_max)
        advice = " and ".join(text for text in (flops_advice, params_advice) if text)
        raise BudgetError(
            f"no network of {self.space.name} (at {self.space.image_size} px) has {budget.describe()}; "
            f"the nearest has {flops} and {params}; {advice}, or use another search space"
        )


def _quote(name: str, cost: int, low: int | None, high: int | None) -> tuple[str, str]:
    """The nearest network's cost, rounded to the side on which it is accepted as a bound, and what to ask for."""
    if high is not None and cost > high:
        text = round_quantity(cost, up=True)
        too_much = f"{cost / high:,.4g} times the budget of {format_quantity(high)}"
        return f"{text} {name} ({too_much})", f"raise the {name} budget to at least {text}"
    if low is not None and cost < low:
        text = round_quantity(cost, up=False)
        too_little = f"{cost / low:.4g} times the minimum of {format_quantity(low)}"
        return f"{text} {name} ({too_little})", f"lower the minimum of {name} to at most {text}"
    return f"{round_quantity(cost, up=low is None)} {name}", ""


def round_quantity(value: int, up: bool) -> str:
    """A count with four digits and K, M or G that reads back (`parse_quantity`) as at least, or at most, the value."""
    unit = 10 ** max(0, len(str(value)) - 4)
    return format_quantity((ceil(Fraction(value, unit)) if up else value // unit) * unit, digits=4)
