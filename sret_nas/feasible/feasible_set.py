"""The networks of a search space inside a budget: counted, listed, and drawn uniformly.

FLOPs and parameters of a network are sums over its stages and the poolings between them, and a pooling depends only on
the widths of its neighbours. A `CostTable` uses this to count the networks in a window of costs and to draw from them,
exactly and without rejection.

A budget may also bound the FLOPs at the shallowest depth, which are as additive as the others. Two bounded costs are
counted and drawn by the same table, whichever they are. Three are drawn from the table of the two that leave the fewest
networks, and a draw is kept if the third cost fits, which keeps draws uniform; `sret_nas.feasible.three_costs` counts
them exactly.

Spaces beyond `MAX_PAIRS` are too rich for that; no shipped space is. Their table rounds costs and counts a superset.
A draw from the superset is kept if its true cost lies inside the budget, so draws stay uniform. The count is then an
estimate, the superset's count times the share of draws that are kept, and `count_is_exact` is False.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import bounded_costs
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.errors import BudgetError
from sret_nas.feasible.arguments import require_draws, require_one_of, require_space_and_budget
from sret_nas.feasible.cost_cells import Slots, Window
from sret_nas.feasible.cost_table import MAX_PAIRS, CostTable, check_max_pairs, cost_table_of
from sret_nas.feasible.extremes import nearest_extreme, tighter_budget, undominated_networks
from sret_nas.feasible.overflow import check_costs_fit
from sret_nas.feasible.three_costs import count_inside
from sret_nas.quantities import format_quantity, round_quantity
from sret_nas.space.chain import chain_of
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace

CostName = Literal["flops", "params"]
"""A cost of networks: FLOPs (multiply-adds for one image) or parameters."""

MAX_TRIES = 2_000
"""Draws from the superset of a rounded table that may all miss before the window counts as too narrow."""

_MAX_AT_ONCE = 2**20
"""Most draws per step, to bound memory."""

_ESTIMATE_DRAWS = 2_000
"""Draws from the superset of a rounded table that a count is estimated from."""

_FEW = 1_000
"""Largest set of which `nearest` examines every network; of a larger one, it examines `_BATCH` draws."""

_BOUNDS = (("flops_min", "flops_max"), ("params_min", "params_max"), ("shallowest_flops_max",))
"""Fields of `Budget` that bound each cost."""

_BATCH = 64
"""Draws that `nearest` examines before it narrows the window."""


class CostedArch(NamedTuple):
    """An architecture with its FLOPs and parameters."""

    arch: ArchConfig
    flops: int
    params: int
    shallowest_flops: int


class FeasibleSet:
    """The networks of a space whose true costs lie inside a budget.

    Results are computed on first use, so construction is cheap.
    """

    def __init__(
        self, space: SearchSpace, budget: Budget, *, max_pairs: int = MAX_PAIRS, completions: FloatArray | None = None,
        slots: Slots | None = None,
    ) -> None:  # fmt: skip
        """Raises `UserError` for no space, no budget or costs beyond 64 bits, `ValueError` as `check_max_pairs` does.

        Args:
            space: The networks.
            budget: Bounds on their costs.
            max_pairs: Bounds time and memory (see `sret_nas.feasible.cost_table`); spaces within it are exact.
            completions: Counts of this set that `split` has made already.
            slots: The costs that its table counts by, of three bounded ones.
        """
        check_max_pairs(max_pairs)
        require_space_and_budget(space, budget)
        check_costs_fit(space)
        self.space = space
        self.budget = budget
        self._max_pairs = max_pairs
        self._costs = choice_costs_of(space)
        self._given_completions = completions
        self._given_slots = slots

    @cached_property
    def _slots(self) -> Slots:
        """The costs that the table counts by: those that are bounded or, of three, the two that leave the fewest."""
        if self._given_slots is not None:
            return self._given_slots
        bounded = self.budget.bounded
        if len(bounded) < 3:
            return _slots_of(bounded)
        two = {
            _slots_of(kept): replace(self.budget, **dict.fromkeys(_BOUNDS[left_out]))
            for left_out, kept in ((2, (0, 1)), (1, (0, 2)), (0, (1, 2)))
        }
        return min(two, key=lambda slots: self._with_budget(two[slots]).count)

    @property
    def _has_three(self) -> bool:
        """Whether the budget bounds three costs, so that the table leaves one out."""
        return len(self.budget.bounded) == 3

    @cached_property
    def _table(self) -> CostTable:
        """The table that counts the costs that the budget bounds, or two of them."""
        return cost_table_of(self.space, self._slots, self._max_pairs)

    @cached_property
    def _window(self) -> Window:
        """The budget, widened by the rounding of the table."""
        return self._table.widened(Window.of(self.budget, self._slots))

    @cached_property
    def _completions(self) -> FloatArray:
        """Number of pairs of prefix and middle in the window, of shape (width paths, last cells)."""
        if self._given_completions is not None:
            return self._given_completions
        completions: FloatArray = self._table.completions([self._window])[0]
        return completions

    @cached_property
    def _cumulated_weights(self) -> FloatArray:
        """Running sum of networks in the window over width paths and their last cells; a superset if rounded."""
        return np.cumsum(self._completions * self._table.last_count)

    @property
    def count_is_exact(self) -> bool:
        """Whether `count` is exact rather than an estimate from draws."""
        if self._has_three:
            return self._count_of_three is not None
        return self._table.is_exact or self._is_unbounded

    @cached_property
    def _count_of_three(self) -> int | None:
        """The count where three costs are bounded; None if the space is too rich for an exact one."""
        return count_inside(self._costs, self.budget, self._max_pairs)

    @property
    def _is_unbounded(self) -> bool:
        """Whether the budget bounds nothing, so that all networks of the space lie inside."""
        return self.budget == Budget()

    @cached_property
    def count(self) -> int:
        """Number of distinct networks inside the budget."""
        if self._is_unbounded:
            return self.space.num_networks
        if self._has_three and self._count_of_three is not None:
            return self._count_of_three
        if self._table.is_exact and not self._has_three:
            # Python's integers, because products of exact floats would be rounded from 2**53 on.
            pairs, choices = self._completions.sum(axis=0), self._table.last_count
            return sum(int(a) * int(b) for a, b in zip(pairs.tolist(), choices.tolist(), strict=True))
        total = float(self._cumulated_weights[-1])
        kept = len(self._draw(np.random.default_rng(0), _ESTIMATE_DRAWS)) if total else 0
        return round(total * kept / _ESTIMATE_DRAWS)

    @property
    def share(self) -> float:
        """Share of the space's networks that lie inside the budget."""
        return self.count / self.space.num_networks

    def split(self, windows: Sequence[Budget]) -> list[FeasibleSet]:
        """Returns one set per window, all counted in a single pass over one table.

        The windows must all bound the same costs.
        """
        slots = self._with_budget(windows[0])._slots
        parts = [FeasibleSet(self.space, window, max_pairs=self._max_pairs, slots=slots) for window in windows]
        completions = parts[0]._table.completions([part._window for part in parts])
        return [
            FeasibleSet(self.space, window, max_pairs=self._max_pairs, completions=counted, slots=slots)
            for window, counted in zip(windows, completions, strict=True)
        ]

    def probability(self, arch: ArchConfig) -> float:
        """Returns the probability of a network in one draw: equal for all networks of the set, 0 for any other."""
        is_inside = self.budget.allows(*bounded_costs(arch)) and self.space.contains(arch)
        # An estimated count can be 0 although there are networks.
        return 1 / max(self.count, 1) if is_inside else 0.0

    def sample(self, rng: np.random.Generator) -> ArchConfig:
        """Draws one network uniformly. Raises `BudgetError` if the set is empty.

        If counts are estimates, it also raises `BudgetError` when `MAX_TRIES` draws all miss the window, because it is
        too narrow compared with the rounding.
        """
        return self.sample_many(rng, 1)[0]

    def sample_many(self, rng: np.random.Generator, num_draws: int) -> list[ArchConfig]:
        """Draws networks independently as `sample` does; a network may occur more than once."""
        return [self._costs.network(self.space, tuple(row)) for row in self.sample_choices(rng, num_draws).tolist()]

    def sample_choices(self, rng: np.random.Generator, num_draws: int) -> IntArray:
        """Draws like `sample_many`, but returns choices of shape (num_draws, stages), without building networks.

        A million draws take seconds; `ChoiceCosts.network` builds a network from its choices. Raises `BudgetError` if
        the set is empty, or if `MAX_TRIES` draws in a row missed the budget.
        """
        require_draws(rng, num_draws)
        self.check()
        drawn = np.empty((0, len(self.space.stages)), dtype=np.int64)
        misses = 0
        while len(drawn) < num_draws:
            if misses >= MAX_TRIES:
                raise BudgetError(
                    f"{misses} draws from {self.space.name} all missed the budget ({self.budget.describe()}): the "
                    "space is too rich for a window this narrow; widen the budget or list fewer values"
                )
            tries = min(max(num_draws - len(drawn), misses), _MAX_AT_ONCE)
            new_draws = self._draw(rng, tries)
            misses = 0 if len(new_draws) else misses + tries
            drawn = np.concatenate([drawn, new_draws])
        return drawn[:num_draws]

    def _draw(self, rng: np.random.Generator, tries: int) -> IntArray:
        """Draws uniformly from the networks whose rounded costs fit, and drops those whose true costs do not."""
        total = self._cumulated_weights
        completion = np.searchsorted(total, rng.random(tries) * total[-1], side="right").clip(max=len(total) - 1)
        choices = self._table.draw(completion, self._window, rng)
        if self._table.is_exact and not self._has_three:
            return choices
        choices = choices[choices[:, 0] >= 0]
        flops, params = chain_of(self.space).costs(choices).T
        inside = Window.of(self.budget).contains(flops, params)
        if self.budget.shallowest_flops_max is not None:
            inside &= self._costs.shallowest(choices, flops) <= self.budget.shallowest_flops_max
        return choices[inside]

    def __iter__(self) -> Iterator[ArchConfig]:
        """Yields all networks of the set, each once, in a fixed order. Check `count` first: there may be 1e12."""
        for choices in self._iterate_choices():
            yield self._costs.network(self.space, choices)

    def _iterate_choices(self) -> Iterator[tuple[int, ...]]:
        """Yields the choices of all networks of the set."""
        for path, last in np.argwhere(self._completions > 0).tolist():
            for choices in self._table.members(path, last, self._window):
                if self.budget.allows(*self._costs.bounded(choices)):
                    yield choices

    def cheapest(self, by: CostName = "flops") -> CostedArch:
        """Returns the network of the whole space with the least of a cost; ties are broken by the other cost."""
        return self._extreme(by, sign=1)

    def most_expensive(self, by: CostName = "flops") -> CostedArch:
        """Returns the network of the whole space with the most of a cost; ties are broken by the other cost."""
        return self._extreme(by, sign=-1)

    def _extreme(self, by: CostName, sign: int) -> CostedArch:
        """Returns the cheapest network of the whole space (`sign` 1) or the most expensive one (-1)."""
        require_one_of(get_args(CostName), by)

        def order(choices: tuple[int, ...]) -> int:  # of networks that tie, only the best by the other cost is there
            flops, params = self._costs.cost(choices)
            return sign * (flops if by == "flops" else params)

        return self._costed(min(undominated_networks(self.space, (sign, sign)), key=order))

    def _costed(self, choices: tuple[int, ...]) -> CostedArch:
        """Builds and costs the network of some choices."""
        return CostedArch(self._costs.network(self.space, choices), *self._costs.bounded(choices))

    @cached_property
    def _nearest_extreme(self) -> CostedArch:
        """The extreme network with the least excess over the budget."""
        return self._costed(nearest_extreme(self.space, self.budget))

    @property
    def _has_two_sides(self) -> bool:
        """Whether a cost has both a minimum and a maximum."""
        budget = self.budget
        return None not in (budget.flops_min, budget.flops_max) or None not in (budget.params_min, budget.params_max)

    @property
    def _extremes_decide(self) -> bool:
        """Whether no network of the space has less excess than `_nearest_extreme`."""
        budget = self.budget
        is_mixed = self._has_three and (budget.flops_min, budget.params_min) != (None, None)
        return not self._has_two_sides and not is_mixed

    @cached_property
    def is_empty(self) -> bool:
        """Whether no network lies inside the budget; fast unless a cost has both a minimum and a maximum.

        If a cost has both and counts are estimates, False only means that emptiness is not proven.
        """
        if self._given_completions is not None and self._table.is_exact and not self._has_three:
            return not self._given_completions.any()
        if self._is_inside(self._nearest_extreme):
            return False
        if self._extremes_decide or not self._completions.any():
            return True
        if not self._has_three or len(self._draw(np.random.default_rng(0), _BATCH)) > 0:
            return False
        return self._count_of_three == 0

    @property
    def has_members(self) -> bool:
        """Whether networks are known to lie inside the budget: by the count or, where that is slow, by draws."""
        if self._has_three and self._cumulated_weights[-1] > 0 and len(self._draw(np.random.default_rng(0), _BATCH)):
            return True
        return self.count > 0

    def nearest(self) -> CostedArch:
        """Returns the network with the least `Budget.excess`, which lies inside the budget if any does.

        If a cost has both a minimum and a maximum and counts are estimates, it is the best network among draws.
        """
        best = self._nearest_extreme
        if self._extremes_decide:
            return best
        while not self._is_inside(best):
            closer = self._with_budget(tighter_budget(self.budget, *best[1:]))._some_members()
            if not closer:
                return best
            best = min(closer, key=lambda costed: self.budget.excess(*costed[1:]))
        return best

    def _is_inside(self, network: CostedArch) -> bool:
        return self.budget.allows(*network[1:])

    def _with_budget(self, budget: Budget) -> FeasibleSet:
        """Returns the networks of the same space inside another budget."""
        return FeasibleSet(self.space, budget, max_pairs=self._max_pairs)

    def _some_members(self) -> list[CostedArch]:
        """Returns all networks of a small set (`_FEW`), or some of a larger one."""
        if self._cumulated_weights[-1] <= _FEW:
            return [self._costed(choices) for choices in self._iterate_choices()]
        draws = self._draw(np.random.default_rng(0), _BATCH)
        if self._has_three and len(draws) == 0 and self._count_of_three != 0:
            draws = self._draw(np.random.default_rng(1), _MAX_AT_ONCE)
        return [self._costed(tuple(choices)) for choices in draws[:_BATCH].tolist()]

    def check(self) -> None:
        """Raises `BudgetError`, naming the nearest possible network, if the set is empty."""
        if not self.is_empty:
            return
        nearest, budget = self.nearest(), self.budget
        flops, flops_advice = _quote("FLOPs", nearest.flops, budget.flops_min, budget.flops_max)
        params, params_advice = _quote("parameters", nearest.params, budget.params_min, budget.params_max)
        costs, advice = f"{flops} and {params}", [flops_advice, params_advice]
        if budget.shallowest_flops_max is not None:
            shallowest, shallowest_advice = _quote(
                "shallowest-depth FLOPs", nearest.shallowest_flops, None, budget.shallowest_flops_max
            )
            costs, advice = f"{flops}, {params} and {shallowest}", [*advice, shallowest_advice]
        raise BudgetError(
            f"no network of {self.space.name} (at {self.space.image_size} px) has {budget.describe()}; "
            f"the nearest has {costs}; {' and '.join(filter(None, advice))}, or use another search space"
        )


def _slots_of(bounded: Sequence[int]) -> Slots:
    """Returns the slots of at most two bounded costs; FLOPs, which differ most, come first."""
    first, second = (0 if 0 in bounded else None), (1 if 1 in bounded else None)
    if 2 not in bounded:
        return first, second
    return (2, second) if first is None else (first, 2)


def _ratio(ratio: float) -> str:
    """Returns a number above 1 without an exponent, and not as 1."""
    return f"{ratio:,.0f}" if ratio >= 1000 else f"{ratio:.{4 if ratio > 1.001 else 9}g}"


def _quote(name: str, cost: int, low: int | None, high: int | None) -> tuple[str, str]:
    """Formats a cost of the nearest network, and the advice to change a bound if it breaks one.

    The cost is rounded towards the side on which it would be accepted as a bound.
    """
    if high is not None and cost > high:
        text = round_quantity(cost, up=True)
        too_much = f"{_ratio(cost / high)} times the budget of {format_quantity(high)}"
        return f"{text} {name} ({too_much})", f"raise the {name} budget to at least {text}"
    if low is not None and cost < low:
        text = round_quantity(cost, up=False)
        too_little = f"the minimum of {format_quantity(low)} is {_ratio(low / cost)} times that"
        return f"{text} {name} ({too_little})", f"lower the minimum of {name} to at most {text}"
    return f"{round_quantity(cost, up=low is None)} {name}", ""
