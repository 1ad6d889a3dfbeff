"""Choices merged by equal cost into the cells that a `CostTable` counts with, stage by stage.

The choices of one stage and state (see `ChoiceCosts`) fall into a few hundred *cells*: distinct costs with the number
of choices that have them. The cells of a prefix of stages are built from pairs of a cell of the earlier stages and a
cell of the last stage. If there would be too many cells, costs are rounded down to a grid; `rounding_error` bounds the
difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt

from sret_nas.arch.budget import Budget
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.feasible.overflow import MAX_COST
from sret_nas.space.choice_costs import Links

_GRID = 1024
"""Steps of the finest rounding over the range of a cost."""

_PROBES = 2048
"""Positions probed per step of a search for few targets."""


Slots = tuple[int | None, int | None]
"""The two costs that a table counts by, as positions in `Budget.bounded`; None for a cost that does not matter.

Where the FLOPs at the shallowest depth stand in place of a cost, what is said of that cost is true of them.
"""

BOTH: Slots = (0, 1)
"""FLOPs and parameters."""


@dataclass(frozen=True)
class Window:
    """Closed bounds (FLOPs, parameters); 0 and `MAX_COST` stand for missing bounds."""

    low: tuple[int, int]
    high: tuple[int, int]

    @classmethod
    def of(cls, budget: Budget, slots: Slots = BOTH) -> Window:
        """Converts a budget's bounds on two costs."""
        lows = {0: budget.flops_min, 1: budget.params_min}
        highs = {0: budget.flops_max, 1: budget.params_max, 2: budget.shallowest_flops_max}
        low = [None if slot is None else lows.get(slot) for slot in slots]
        high = [None if slot is None else highs[slot] for slot in slots]
        return cls(
            (low[0] or 0, low[1] or 0),
            (MAX_COST if high[0] is None else high[0], MAX_COST if high[1] is None else high[1]),
        )

    def contains(self, flops: IntArray, params: IntArray) -> npt.NDArray[np.bool_]:
        """Masks the costs inside the window; the result has the broadcast shape of the two arrays."""
        inside: npt.NDArray[np.bool_] = (
            (flops >= self.low[0]) & (flops <= self.high[0]) & (params >= self.low[1]) & (params <= self.high[1])
        )
        return inside


@dataclass(frozen=True)
class CostCells:
    """Items of one state (choices, or pairs of cells) merged by cost; sorted by FLOPs, then parameters.

    Attributes:
        flops: FLOPs of each cell, of shape (cells,).
        params: Parameters of each cell, of shape (cells,).
        count: Number of choices or prefixes in each cell, of shape (cells,).
        merged: Positions of the items, cell by cell, of shape (items,).
        start: Cell i holds `merged[start[i] : start[i + 1]]`; of shape (cells + 1,).
    """

    flops: IntArray
    params: IntArray
    count: FloatArray
    merged: npt.NDArray[np.integer]
    start: IntArray

    @classmethod
    def of(
        cls, flops: IntArray, params: IntArray, count: FloatArray | None = None, step: tuple[int, int] = (1, 1)
    ) -> CostCells:
        """Merges items with equal costs, rounded down to multiples of `step`.

        Each item counts once, or `count` times; arrays of shape (items,).
        """
        flops, params = flops // step[0], params // step[1]
        order = np.lexsort((_sortable(params), _sortable(flops)))
        flops, params = flops[order], params[order]
        start = np.union1d(starts_of_runs(flops), starts_of_runs(params))
        end = np.append(start, len(order))
        total = np.diff(end).astype(np.float64) if count is None else np.add.reduceat(count[order], start)
        # There are many pairs of cells: 32-bit positions halve the memory of a table.
        merged = order.astype(np.int32) if len(order) < 2**31 else order
        return cls(flops[start] * step[0], params[start] * step[1], total, merged, end)

    def __len__(self) -> int:
        return len(self.flops)

    def members(self, cell: int) -> npt.NDArray[np.integer]:
        """Returns the positions of the items of one cell."""
        return self.merged[self.start[cell] : self.start[cell + 1]]


def _sortable(costs: IntArray) -> npt.NDArray[np.integer]:
    """Returns numbers in the same order as the costs; 16-bit ones if possible, which numpy sorts by radix."""
    least = costs.min()
    return (costs - least).astype(np.uint16) if costs.max() - least < 2**16 else costs


class StageCosts:
    """The choices of one stage (see `ChoiceCosts`) by state and cost.

    Attributes:
        cells: Cells by state.
        rounding_error: Most by which FLOPs and parameters of a cell lie below those of its choices.
    """

    num_stages = 1

    def __init__(self, state: IntArray, flops: IntArray, params: IntArray, limit: int | None = None) -> None:
        """Merges choices, given by arrays of shape (choices,), into at most `limit` cells per state."""
        self.cells: dict[int, CostCells] = {}
        self._choices: dict[int, IntArray] = {}
        steps = []
        for one in np.unique(state).tolist():
            choices = np.flatnonzero(state == one)
            steps.append(_step_for(flops[choices], params[choices], limit))
            self.cells[one] = CostCells.of(flops[choices], params[choices], step=steps[-1])
            self._choices[one] = choices
        self.rounding_error = _rounding_error(steps)

    def draw(self, state: int, cell: IntArray, rng: np.random.Generator) -> IntArray:
        """Draws, for each of n cells, one of its choices uniformly; shape (n, 1)."""
        cells = self.cells[state]
        position = rng.integers(cells.start[cell], cells.start[cell + 1])
        return self._choices[state][cells.merged[position], None]

    def members(self, state: int, cell: int) -> Iterator[tuple[int, ...]]:
        """Yields the choices of a cell."""
        return ((choice,) for choice in self._choices[state][self.cells[state].members(cell)].tolist())


def _step_for(flops: IntArray, params: IntArray, limit: int | None) -> tuple[int, int]:
    """Returns the finest step, doubled as often as needed, with at most `limit` distinct costs."""
    if limit is None or (len(np.unique(flops)) <= limit and len(CostCells.of(flops, params)) <= limit):
        return 1, 1
    step = [max(1, -(-int(np.ptp(costs)) // _GRID)) for costs in (flops, params)]
    # Doubled steps make coarser cells unions of finer ones, so rounding cells equals rounding the costs once.
    cells = CostCells.of(flops, params, step=(step[0], step[1]))
    while len(cells) > limit:
        step = [2 * step[0], 2 * step[1]]
        cells = CostCells.of(cells.flops, cells.params, step=(step[0], step[1]))
    return step[0], step[1]


def _rounding_error(steps: list[tuple[int, int]]) -> tuple[int, int]:
    """Returns the most by which rounding down to multiples of one of the steps lowers FLOPs and parameters."""
    return max(step[0] for step in steps) - 1, max(step[1] for step in steps) - 1


class PrefixCosts:
    """The prefixes of all networks up to one stage, by that stage's state and by cost.

    A prefix is a pair of a cell of the earlier prefixes, of a state with a link to the stage's, and a cell of the
    stage. The pairs of one state are numbered `earlier * stage cells + stage cell`. Cells keep their pairs, so that
    prefixes can be drawn from them.
    """

    def __init__(self, before: Layer, stage: StageCosts, links: Links, limit: int) -> None:
        """Combines the prefixes `before` with one more stage, into at most `limit` cells per state."""
        self.num_stages: int = before.num_stages + 1
        self._before, self._stage, self._links = before, stage, links
        self._earlier = {state: self._linked_cells(state) for state in stage.cells}
        self._earlier_count = {
            state: np.concatenate([before.cells[earlier].count for earlier in self._linked_states(state)])
            for state in stage.cells
        }
        self.cells: dict[int, CostCells] = {}
        steps = []
        for state in stage.cells:
            flops, params = self._sums(state)
            count = np.outer(self._earlier_count[state], stage.cells[state].count).ravel()
            steps.append(_step_for(flops, params, limit))
            self.cells[state] = CostCells.of(flops, params, count, steps[-1])
        rounding = _rounding_error(steps)
        self.rounding_error: tuple[int, int] = (
            before.rounding_error[0] + stage.rounding_error[0] + rounding[0],
            before.rounding_error[1] + stage.rounding_error[1] + rounding[1],
        )

    def _linked_states(self, state: int) -> list[int]:
        """Returns the states before that have a link to a state of the stage."""
        return [before for before in self._before.cells if (before, state) in self._links]

    def _linked_cells(self, state: int) -> IntArray:
        """Returns state and cell of the earlier prefixes that a state of the stage may follow, of shape (cells, 2)."""
        linked = [(before, len(self._before.cells[before])) for before in self._linked_states(state)]
        return np.array([(before, cell) for before, number in linked for cell in range(number)])

    def _sums(self, state: int) -> tuple[IntArray, IntArray]:
        """Returns FLOPs and parameters of all pairs of a state, each of shape (pairs,)."""
        stage, flops, params = self._stage.cells[state], [], []
        for state_before in self._linked_states(state):
            before, link = self._before.cells[state_before], self._links[state_before, state]
            flops.append((before.flops[:, None] + (stage.flops + link[0])).ravel())
            params.append((before.params[:, None] + (stage.params + link[1])).ravel())
        return np.concatenate(flops), np.concatenate(params)

    @cached_property
    def _cumulated(self) -> dict[int, FloatArray]:
        """By state, the running sum, within each cell, of the prefixes of its pairs; only needed for draws."""
        return {state: self._cumulate(state) for state in self.cells}

    def _cumulate(self, state: int) -> FloatArray:
        """Sums the prefixes of the pairs of a state, cell by cell, of shape (pairs,)."""
        cells, stage = self.cells[state], self._stage.cells[state]
        earlier, second = np.divmod(cells.merged, len(stage))
        total: FloatArray = self._earlier_count[state][earlier] * stage.count[second]
        for part in np.split(total, cells.start[1:-1]):
            np.cumsum(part, out=part)
        return total

    def draw(self, state: int, cell: IntArray, rng: np.random.Generator) -> IntArray:
        """Draws, for each of n cells, one of its prefixes uniformly; shape (n, stages)."""
        cells, total = self.cells[state], self._cumulated[state]
        low, high = cells.start[cell, None], cells.start[cell + 1, None] - 1
        position = first_above(total.take, low, high, rng.random(low.shape) * total[high])[:, 0]
        earlier, second = np.divmod(cells.merged[position], len(self._stage.cells[state]))
        choices = np.empty((len(cell), self.num_stages), dtype=np.int64)
        choices[:, -1:] = self._stage.draw(state, second, rng)
        before = self._earlier[state][earlier]
        for state_before in np.unique(before[:, 0]).tolist():
            chosen = np.flatnonzero(before[:, 0] == state_before)
            choices[chosen, :-1] = self._before.draw(state_before, before[chosen, 1], rng)
        return choices

    def members(self, state: int, cell: int) -> Iterator[tuple[int, ...]]:
        """Yields the choices of all prefixes of a cell."""
        for pair in self.cells[state].members(cell).tolist():
            earlier, second = divmod(pair, len(self._stage.cells[state]))
            for parts in product(
                self._before.members(*self._earlier[state][earlier].tolist()), self._stage.members(state, second)
            ):
                yield parts[0] + parts[1]


Layer = StageCosts | PrefixCosts
"""Choices by state and cell: of one stage, or of all stages up to one."""


def starts_of_runs(values: IntArray) -> IntArray:
    """Returns the start of each run of equal values in an array of shape (n,)."""
    is_start = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=is_start[1:])
    return np.flatnonzero(is_start)


def runs_of(values: IntArray) -> list[slice]:
    """Returns each run of equal values in an array of shape (n,) as a slice."""
    starts = starts_of_runs(values).tolist()
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(values)], strict=True)]


def first_above(
    value_at: Callable[[IntArray], FloatArray], low: IntArray, high: IntArray, target: FloatArray
) -> IntArray:
    """Searches n ranges of positions at once for the first value above a target.

    It generalises bisection: each step probes several positions per range. With fewer ranges it probes more positions,
    because then the number of steps dominates the time.

    Args:
        value_at: Returns the values at positions of shape (n, probes); values never fall along a range.
        low: First position of each range, of shape (n, 1).
        high: Last position of each range, of shape (n, 1).
        target: Targets, of shape (n, 1).

    Returns:
        The first positions with a value above the target, or `high`; of shape (n, 1).
    """
    probes = np.arange(1, 2 + _PROBES // (1 + len(low)))
    while (low < high).any():
        step = (high - low) // (len(probes) + 1) + 1
        above = value_at(np.minimum(low + step * probes - 1, high)) > target
        end = low + step * (len(probes) + 1 - above.sum(axis=1, keepdims=True))
        low, high = np.minimum(end - step, high), np.minimum(end - 1, high)
    return low
