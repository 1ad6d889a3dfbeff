"""The networks of a search space that lie inside a budget: how many, which, and drawn uniformly.

Costs are algebra. FLOPs and parameters of a network are sums over its stages, tied only through the widths of
neighbours (the pooling between them), so nothing has to be tried and rejected: a `CostTable` counts the networks in a
window of costs, and draws from them, exactly.

In a space too rich for that (`MAX_PAIRS`), which no shipped one is, the table is rounded and counts a superset. Draws
from it are kept if the true cost is inside the budget, so they stay uniform over its networks; the count is the
superset's times the share that is kept, an estimate, and `count_is_exact` is False.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.errors import BudgetError
from sret_nas.feasible.cost_cells import Window
from sret_nas.feasible.cost_table import MAX_PAIRS, CostTable, cost_table_of
from sret_nas.feasible.extremes import nearest_extreme, tighter_budget, undominated_networks
from sret_nas.feasible.overflow import check_costs_fit
from sret_nas.quantities import format_quantity, round_quantity
from sret_nas.space.chain import chain_of
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace

CostName = Literal["flops", "params"]
"""A cost that networks are ordered by: multiply-adds for one image, or parameters."""

MAX_TRIES = 2_000
"""Draws from the superset of a rounded table before a window counts as too narrow to draw from."""

_MAX_AT_ONCE = 2**20
"""Draws that are made in one step, which bounds memory."""

_ESTIMATE_DRAWS = 2_000
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
    `sret_nas.feasible.cost_table`); spaces that need no more are answered exactly. Raises `UserError` if costs of the
    space do not fit into 64 bits.
    """

    def __init__(
        self, space: SearchSpace, budget: Budget, *, max_pairs: int = MAX_PAIRS, completions: FloatArray | None = None
    ) -> None:
        """`completions` is what `split` has counted of this set already."""
        check_costs_fit(space)
        self.space = space
        self.budget = budget
        self._max_pairs = max_pairs
        self._costs = choice_costs_of(space)
        self._counted = completions

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
    def _completions(self) -> FloatArray:
        """Pairs of prefix and middle in the window by width path and last cell; shape (paths, last cells)."""
        if self._counted is not None:
            return self._counted
        completions: FloatArray = self._table.completions([self._window])[0]
        return completions

    @cached_property
    def _cumulated_weights(self) -> FloatArray:
        """Networks in the window, of the last cells of the first path, the second, ...; a superset if rounded."""
        return np.cumsum(self._completions * self._table.last_number)

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
            # Python's integers: in floating point, the products of two exact numbers would be rounded from 2**53 on.
            pairs, choices = self._completions.sum(axis=0), self._table.last_number
            return sum(int(a) * int(b) for a, b in zip(pairs.tolist(), choices.tolist(), strict=True))
        total = float(self._cumulated_weights[-1])
        kept = len(self._draw(np.random.default_rng(0), _ESTIMATE_DRAWS)) if total else 0
        return round(total * kept / _ESTIMATE_DRAWS)

    @property
    def share(self) -> float:
        """The share of the space's networks that lie inside the budget."""
        return self.count / self.space.num_networks

    def split(self, windows: Sequence[Budget]) -> list[FeasibleSet]:
        """Returns the networks of the space inside each of some windows, which bound the same costs.

        All are counted in a single pass over one table, which is what this is for.
        """
        parts = [self._with(window) for window in windows]
        completions = parts[0]._table.completions([part._window for part in parts])
        return [
            FeasibleSet(self.space, window, max_pairs=self._max_pairs, completions=counted)
            for window, counted in zip(windows, completions, strict=True)
        ]

    def probability(self, arch: ArchConfig) -> float:
        """How probable a network is in one draw: the same for all of the set, 0 for any other."""
        cost = cost_of(arch)
        is_inside = self.budget.allows(cost.flops, cost.params) and self.space.contains(arch)
        return 1 / self.count if is_inside else 0.0

    def sample(self, rng: np.random.Generator) -> ArchConfig:
        """One network of the set, each with the same probability. Raises `BudgetError` if it is empty.

        In a space too rich to be counted exactly, it also raises `BudgetError` if the window is so narrow beside the
        rounding that `MAX_TRIES` draws all miss it.
        """
        return self.sample_many(rng, 1)[0]

    def sample_many(self, rng: np.random.Generator, number: int) -> list[ArchConfig]:
        """Independent draws of `sample`; the same network may come twice."""
        return [self._costs.network(self.space, tuple(row)) for row in self.sample_choices(rng, number).tolist()]

    def sample_choices(self, rng: np.random.Generator, number: int) -> IntArray:
        """Independent draws of `sample` as choices (see `sret_nas.space.choice_costs`), of shape (number, stages).

        A million takes seconds: networks are made of the few that are wanted (`ChoiceCosts.network`).
        """
        self.check()
        drawn = np.empty((0, len(self.space.stages)), dtype=np.int64)
        misses = 0
        while len(drawn) < number:
            if misses >= MAX_TRIES:
                raise BudgetError(
                    f"{misses} draws from {self.space.name} all missed the budget ({self.budget.describe()}): the "
                    "space is too rich for a window this narrow; widen the budget or list fewer values"
                )
            tries = min(max(number - len(drawn), misses), _MAX_AT_ONCE)
            found = self._draw(rng, tries)
            misses = 0 if len(found) else misses + tries
            drawn = np.concatenate([drawn, found])
        return drawn[:number]

    def _draw(self, rng: np.random.Generator, tries: int) -> IntArray:
        """Networks drawn uniformly from those whose rounded costs fit, less those whose true costs do not."""
        total = self._cumulated_weights
        place = np.searchsorted(total, rng.random(tries) * total[-1], side="right").clip(max=len(total) - 1)
        choices = self._table.draw(place, self._window, rng)
        if self._table.is_exact:
            return choices
        choices = choices[choices[:, 0] >= 0]
        inside = Window.of(self.budget).contains(*chain_of(self.space).costs(choices).T)
        return choices[inside]

    def __iter__(self) -> Iterator[ArchConfig]:
        """All networks of the set, each once, in a fixed order. Ask for `count` first: there may be 1e12."""
        for choices in self._choices():
            yield self._costs.network(self.space, choices)

    def _choices(self) -> Iterator[tuple[int, ...]]:
        for path, last in np.argwhere(self._completions > 0).tolist():
            for choices in self._table.members(path, last, self._window):
                if self.budget.allows(*self._costs.cost(choices)):
                    yield choices

    def cheapest(self, by: CostName = "flops") -> CostedArch:
        """The network of the whole space with the fewest FLOPs or parameters; of several, the fewest of the other."""
        return self._end(by, sign=1)

    def most_expensive(self, by: CostName = "flops") -> CostedArch:
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
        return self._costed(nearest_extreme(self.space, self.budget))

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
        return not self._has_two_sides or not self._completions.any()

    def nearest(self) -> CostedArch:
        """The network with the least `Budget.excess`: one inside the budget if there is one.

        Exact, but for spaces that are too rich to be counted exactly and a cost with both a minimum and a budget: there
        it is the best that draws find.
        """
        best = self._nearest_end
        if not self._has_two_sides:
            return best
        while not self.budget.allows(best.flops, best.params):
            found = self._with(tighter_budget(self.budget, best.flops, best.params))._some()
            if not found:
                return best
            best = min(found, key=lambda costed: self.budget.excess(costed.flops, costed.params))
        return best

    def _with(self, budget: Budget) -> FeasibleSet:
        return FeasibleSet(self.space, budget, max_pairs=self._max_pairs)

    def _some(self) -> list[CostedArch]:
        """All networks of the set if they are few, otherwise some of them."""
        if self._cumulated_weights[-1] <= _FEW:
            return [self._costed(choices) for choices in self._choices()]
        draws = self._draw(np.random.default_rng(0), _BATCH)
        return [self._costed(tuple(choices)) for choices in draws.tolist()]

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
