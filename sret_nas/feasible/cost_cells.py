"""Choices merged by equal cost: the cells that a cost table counts with, stage by stage.

The choices of one stage and width fall into a few hundred *cells*, each a cost and the number of choices that have it.
The cells of several stages in a row are made of pairs: a cell of the stages before and a cell of the stage. Where cells
would be too many, costs are rounded down to a grid, and `rounding_error` says by how much at most.
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
"""Steps that the finest rounding cuts the range of a cost into."""


_PROBES = 2048
"""Positions that are looked at in one step of a search for few targets."""


@dataclass(frozen=True)
class Window:
    """Closed bounds on FLOPs and parameters, with numbers that nothing exceeds for bounds that are not there."""

    low: tuple[int, int]
    high: tuple[int, int]

    @classmethod
    def of(cls, budget: Budget) -> Window:
        """The window of a budget."""
        return cls(
            (budget.flops_min or 0, budget.params_min or 0),
            (
                MAX_COST if budget.flops_max is None else budget.flops_max,
                MAX_COST if budget.params_max is None else budget.params_max,
            ),
        )

    def contains(self, flops: IntArray, params: IntArray) -> npt.NDArray[np.bool_]:
        """Which of the costs lie inside; of the shape that the two arrays broadcast to."""
        inside: npt.NDArray[np.bool_] = (
            (flops >= self.low[0]) & (flops <= self.high[0]) & (params >= self.low[1]) & (params <= self.high[1])
        )
        return inside


@dataclass(frozen=True)
class Cells:
    """Things of one width by cost: cell i holds `number[i]` of them. Arrays of shape (cells,), sorted by FLOPs.

    `merged` are the positions of what was merged, those of cell i from `start[i]` to `start[i + 1]`.
    """

    flops: IntArray
    params: IntArray
    number: FloatArray
    merged: npt.NDArray[np.integer]
    start: IntArray

    @classmethod
    def of(
        cls, flops: IntArray, params: IntArray, number: FloatArray | None = None, step: tuple[int, int] = (1, 1)
    ) -> Cells:
        """What costs the same, rounded down to multiples of `step`; each thing counts once, or as often as given."""
        flops, params = flops // step[0], params // step[1]
        order = np.lexsort((_sortable(params), _sortable(flops)))
        flops, params = flops[order], params[order]
        start = np.union1d(starts_of_runs(flops), starts_of_runs(params))
        end = np.append(start, len(order))
        total = np.diff(end).astype(np.float64) if number is None else np.add.reduceat(number[order], start)
        # Pairs of cells are many: positions of half the size halve what a table holds.
        merged = order.astype(np.int32) if len(order) < 2**31 else order
        return cls(flops[start] * step[0], params[start] * step[1], total, merged, end)

    def __len__(self) -> int:
        return len(self.flops)

    def members(self, cell: int) -> npt.NDArray[np.integer]:
        """The positions of what one cell holds."""
        return self.merged[self.start[cell] : self.start[cell + 1]]


def _sortable(costs: IntArray) -> npt.NDArray[np.integer]:
    """The costs or, where their range is small, small numbers in the same order, which numpy sorts by radix."""
    least = costs.min()
    return (costs - least).astype(np.uint16) if costs.max() - least < 2**16 else costs


class StageCosts:
    """The choices of one stage by width and cost. A choice is a row of the table, and in stage 1 a stem with it.

    `cells` holds at most `limit` cells for each width; `rounding_error` is by how much the FLOPs and the parameters of
    a cell lie at most below those of its choices.
    """

    num_stages = 1

    def __init__(self, width: IntArray, flops: IntArray, params: IntArray, limit: int | None = None) -> None:
        self.cells: dict[int, Cells] = {}
        self._choices: dict[int, IntArray] = {}
        steps = []
        for w in np.unique(width).tolist():
            choices = np.flatnonzero(width == w)
            steps.append(_step_for(flops[choices], params[choices], limit))
            self.cells[w] = Cells.of(flops[choices], params[choices], step=steps[-1])
            self._choices[w] = choices
        self.rounding_error = _rounding_error(steps)

    def draw(self, width: int, cell: IntArray, rng: np.random.Generator) -> IntArray:
        """A choice for each cell named, uniformly over the cell's; shape (n, 1)."""
        cells = self.cells[width]
        at = rng.integers(cells.start[cell], cells.start[cell + 1])
        return self._choices[width][cells.merged[at], None]

    def members(self, width: int, cell: int) -> Iterator[tuple[int, ...]]:
        """All choices of a cell."""
        return ((choice,) for choice in self._choices[width][self.cells[width].members(cell)].tolist())


def _step_for(flops: IntArray, params: IntArray, limit: int | None) -> tuple[int, int]:
    """The finest of a few steps whose grid leaves at most `limit` distinct costs."""
    if limit is None or (len(np.unique(flops)) <= limit and len(Cells.of(flops, params)) <= limit):
        return 1, 1
    step = [max(1, -(-int(np.ptp(costs)) // _GRID)) for costs in (flops, params)]
    # Steps are doubled, so that a coarser cell is made of finer ones and the costs themselves are rounded once.
    cells = Cells.of(flops, params, step=(step[0], step[1]))
    while len(cells) > limit:
        step = [2 * step[0], 2 * step[1]]
        cells = Cells.of(cells.flops, cells.params, step=(step[0], step[1]))
    return step[0], step[1]


def _rounding_error(steps: list[tuple[int, int]]) -> tuple[int, int]:
    """By how much rounding down to multiples of some steps lowers a cost at most."""
    return max(step[0] for step in steps) - 1, max(step[1] for step in steps) - 1


class PrefixCosts:
    """The first stages of all networks, by the last one's width and by cost.

    A prefix is a pair: a cell of the earlier prefixes, of whatever width, and a cell of the stage. Pair number
    `earlier * stage cells + stage cell` is one of a width; the pairs of a cell are kept, for drawing from it.
    """

    def __init__(self, before: Layer, stage: StageCosts, links: Links, limit: int) -> None:
        self.num_stages: int = before.num_stages + 1
        self._before, self._stage, self._links = before, stage, links
        self._earlier = [(w, cell) for w, cells in before.cells.items() for cell in range(len(cells))]
        self._earlier_number = np.concatenate([cells.number for cells in before.cells.values()])
        self.cells: dict[int, Cells] = {}
        steps = []
        for width in stage.cells:
            flops, params = self._sums(width)
            number = np.outer(self._earlier_number, stage.cells[width].number).ravel()
            steps.append(_step_for(flops, params, limit))
            self.cells[width] = Cells.of(flops, params, number, steps[-1])
        rounding = _rounding_error(steps)
        self.rounding_error: tuple[int, int] = (
            before.rounding_error[0] + stage.rounding_error[0] + rounding[0],
            before.rounding_error[1] + stage.rounding_error[1] + rounding[1],
        )

    def _sums(self, width: int) -> tuple[IntArray, IntArray]:
        """FLOPs and parameters of all pairs of a width."""
        stage, flops, params = self._stage.cells[width], [], []
        for width_before, before in self._before.cells.items():
            link = self._links[width_before, width]
            flops.append((before.flops[:, None] + (stage.flops + link[0])).ravel())
            params.append((before.params[:, None] + (stage.params + link[1])).ravel())
        return np.concatenate(flops), np.concatenate(params)

    @cached_property
    def _cumulated(self) -> dict[int, FloatArray]:
        """By width, how many prefixes the pairs in `Cells.merged` make, cumulated within each cell; for draws only."""
        return {width: self._cumulate(width) for width in self.cells}

    def _cumulate(self, width: int) -> FloatArray:
        cells, stage = self.cells[width], self._stage.cells[width]
        earlier, second = np.divmod(cells.merged, len(stage))
        total: FloatArray = self._earlier_number[earlier] * stage.number[second]
        for part in np.split(total, cells.start[1:-1]):
            np.cumsum(part, out=part)
        return total

    def draw(self, width: int, cell: IntArray, rng: np.random.Generator) -> IntArray:
        """The choices of a prefix for each cell named, uniformly over the cell's; shape (n, stages)."""
        cells, total = self.cells[width], self._cumulated[width]
        low, high = cells.start[cell, None], cells.start[cell + 1, None] - 1
        at = first_above(total.take, low, high, rng.random(low.shape) * total[high])[:, 0]
        earlier, second = np.divmod(cells.merged[at], len(self._stage.cells[width]))
        choices = np.empty((len(cell), self.num_stages), dtype=np.int64)
        choices[:, -1:] = self._stage.draw(width, second, rng)
        before = np.array(self._earlier)[earlier]
        for width_before in np.unique(before[:, 0]).tolist():
            chosen = np.flatnonzero(before[:, 0] == width_before)
            choices[chosen, :-1] = self._before.draw(width_before, before[chosen, 1], rng)
        return choices

    def members(self, width: int, cell: int) -> Iterator[tuple[int, ...]]:
        """The choices of all prefixes of a cell."""
        for pair in self.cells[width].members(cell).tolist():
            earlier, second = divmod(pair, len(self._stage.cells[width]))
            for parts in product(self._before.members(*self._earlier[earlier]), self._stage.members(width, second)):
                yield parts[0] + parts[1]


Layer = StageCosts | PrefixCosts
"""What draws and lists choices by width and cell: one stage, or all stages up to one."""


def starts_of_runs(values: IntArray) -> IntArray:
    """Where the runs of equal values start in an array of shape (n,)."""
    is_start = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=is_start[1:])
    return np.flatnonzero(is_start)


def runs_of(values: IntArray) -> list[slice]:
    """The runs of equal values in an array of shape (n,)."""
    starts = starts_of_runs(values).tolist()
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(values)], strict=True)]


def first_above(
    value_at: Callable[[IntArray], FloatArray], low: IntArray, high: IntArray, target: FloatArray
) -> IntArray:
    """For each of n runs of positions, the first from `low` to `high` whose value is above the target, or `high`.

    Arrays of shape (n, 1), and so is the answer. `value_at` takes positions of shape (n, probes); along a run, values
    never fall. The fewer runs, the more probes at once, as what counts then is the number of steps.
    """
    probe = np.arange(1, 2 + _PROBES // (1 + len(low)))
    while (low < high).any():
        step = (high - low) // (len(probe) + 1) + 1
        above = value_at(np.minimum(low + step * probe - 1, high)) > target
        end = low + step * (len(probe) + 1 - above.sum(axis=1, keepdims=True))
        low, high = np.minimum(end - step, high), np.minimum(end - 1, high)
    return low
