"""How many networks of a space cost what, and which: the numbers that a feasible set is counted and drawn from.

Equal costs are merged into cells. The network is cut in three: the stages up to the last but two (the prefix), the
last but one (the middle) and the last. For each path of widths, a histogram of the cost sums of prefix and middle, over
the thresholds that the cells of the last stage leave, says how many networks each of them completes: an exact count.
Drawing goes backwards through the same numbers, without rejection: the widths and the last stage's cell by their
counts, the prefix's cell by what it leaves for the middle, the middle's cell, then a choice within each cell.

That is exact while the sums are few enough (`MAX_PAIRS`), as in all shipped spaces. Beyond it, in spaces of four and
more rich stages, costs are rounded down to a grid, and the window widened by the rounding holds a superset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from math import isqrt, prod

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.feasible.cost_cells import Cells, Layer, PrefixCosts, StageCosts, Window, runs_of
from sret_nas.feasible.summed_area_table import SummedAreaTable
from sret_nas.space.choice_costs import ChoiceCosts, Links, choice_costs_of
from sret_nas.space.search_space import SearchSpace

MAX_PAIRS = 40_000_000
"""Cost sums of prefix and middle that are looked at one by one; about a second of one core."""

_CHUNK = 2**20
"""Cost sums that are looked at in one step, which bounds memory."""

_MAX_THRESHOLDS = 2**23
"""Bins of one histogram; the cells of the last stage are taken in parts where they would leave more."""

_MAX_RECTANGLES = 2**23
"""Cumulated numbers that are kept for draws from one width of the middle; beyond it, costs are rounded."""

_EXACT = 2**53
"""Networks of prefix and middle below which their numbers, summed in floating point, are exact."""

_Stage = tuple[IntArray, IntArray, IntArray]
"""Width, FLOPs and parameters of every choice of a stage, each of shape (choices,)."""


class CostTable:
    """The cells of prefix, middle and last stage, and how many pairs of the first two complete the third.

    `is_bounded` says whether FLOPs and whether parameters are looked at; `max_pairs` bounds the sums of prefix and
    middle. `rounding_error` is by how much rounding lowers FLOPs and parameters of a network at most. `paths` are the
    widths of prefix and middle, `last_cells` the width and cell of the last stage, of shape (last cells, 2), and
    `last_number` how many choices each holds.
    """

    def __init__(self, costs: ChoiceCosts, is_bounded: tuple[bool, bool], max_pairs: int) -> None:
        stages, links, self._given = _at_least_three(*_without_unbounded(costs, is_bounded))
        layers = [StageCosts(*stage) for stage in stages]
        limit = min(isqrt(max_pairs) // max(len(layer.cells) for layer in layers), isqrt(_MAX_RECTANGLES) - 1)
        if (
            len(layers) > 3
            or _num_pairs(layers[0], layers[1]) > max_pairs
            or _num_rectangles(layers[1]) > _MAX_RECTANGLES
        ):
            layers = [StageCosts(*stage, limit) for stage in stages]
        self.prefix: Layer = layers[0]
        self.middle, self.last = layers[-2:]
        for position, stage in enumerate(layers[1:-2], start=1):
            # The last of the prefixes may have the more cells the fewer the middle has.
            if position == len(layers) - 3:
                limit = max(limit, max_pairs // (_num_cells(self.middle) * len(stage.cells)))
            self.prefix = PrefixCosts(self.prefix, stage, links[position - 1], limit)
        self._before_middle, self._before_last = links[-2:]

        self.rounding_error = tuple(
            self.prefix.rounding_error[cost] + self.middle.rounding_error[cost] + self.last.rounding_error[cost]
            for cost in range(2)
        )
        pairs = _num_choices(self.prefix) * _num_choices(self.middle)
        self.is_exact = self.rounding_error == (0, 0) and pairs < _EXACT
        self.paths = [path for path in product(self.prefix.cells, self.middle.cells) if path in self._before_middle]
        self.last_cells = np.array([(w, cell) for w, cells in self.last.cells.items() for cell in range(len(cells))])
        self.last_number = np.concatenate([cells.number for cells in self.last.cells.values()])

    def widened(self, window: Window) -> Window:
        """The window that holds the rounded costs of all networks whose true costs the given one holds."""
        return replace(window, low=(window.low[0] - self.rounding_error[0], window.low[1] - self.rounding_error[1]))

    def completions(self, windows: Sequence[Window]) -> FloatArray:
        """How many pairs of prefix and middle complete each cell of the last stage, in each of a few windows.

        Of shape (windows, paths, last cells). The cost sums are placed once, whatever the number of windows.
        """
        counts = np.zeros((len(windows), len(self.paths), len(self.last_cells)))
        for middle_width in self.middle.cells:
            limits = self._limits(windows, middle_width)
            num_thresholds = prod(len(np.unique(limit)) for limit in limits)
            num_chunks = min(1 + num_thresholds // _MAX_THRESHOLDS, len(self.last_cells))
            for chunk in np.array_split(np.arange(len(self.last_cells)), num_chunks):
                flops_limits, flops_at = np.unique(limits[0][..., chunk], return_inverse=True)
                params_limits, params_at = np.unique(limits[1][..., chunk], return_inverse=True)
                shape = len(windows), 2, len(chunk)
                for path, widths in enumerate(self.paths):
                    if widths[1] == middle_width:
                        below = self._cumulated(widths, flops_limits, params_limits)
                        counts[:, path, chunk] = _inside(below, flops_at.reshape(shape), params_at.reshape(shape))
        return counts

    def _limits(self, windows: Sequence[Window], middle_width: int) -> list[IntArray]:
        """What prefix and middle may cost for each last cell, FLOPs and parameters.

        Each of shape (windows, 2, last cells): just too little, and the most.
        """
        limits = []
        for cost, rest in enumerate(self._rests[middle_width]):
            bounds = np.array([(window.low[cost] - 1, window.high[cost]) for window in windows])
            # Limits that no sum can reach are one limit, which keeps the histogram small.
            limits.append(np.clip(bounds[:, :, None] - rest, -1, self._most(cost)))
        return limits

    @cached_property
    def _rests(self) -> dict[int, IntArray]:
        """What last cells and the pooling before them cost, by the middle's width: two costs x last cells."""
        return {
            middle_width: np.hstack([
                np.array([cells.flops, cells.params]) + np.array(self._before_last[middle_width, width])[:, None]
                for width, cells in self.last.cells.items()
            ])
            for middle_width in self.middle.cells
        }  # fmt: skip

    def _most(self, cost: int) -> int:
        layers = (self.prefix, self.middle)
        most = [max(int((c.flops, c.params)[cost].max()) for c in layer.cells.values()) for layer in layers]
        return sum(most) + max(link[cost] for link in self._before_middle.values())

    def _cumulated(self, path: tuple[int, int], flops_limits: IntArray, params_limits: IntArray) -> FloatArray:
        """How many pairs on a path cost at most each limit in FLOPs and each in parameters; shape (limits, limits)."""
        first, second, link = self._pair(path)
        # Few parameter counts differ, so the sums of those that do are placed once.
        first_params, first_of = np.unique(first.params, return_inverse=True)
        second_params, second_of = np.unique(second.params, return_inverse=True)
        column = np.searchsorted(params_limits, first_params[:, None] + (second_params + link[1]))
        shape = len(flops_limits) + 1, len(params_limits) + 1
        histogram = np.zeros(shape)
        step = max(1, _CHUNK // len(second))
        for start in range(0, len(first), step):
            rows = slice(start, start + step)
            row = np.searchsorted(flops_limits, first.flops[rows, None] + (second.flops + link[0]))
            place = row * shape[1] + column[first_of[rows, None], second_of]
            number = first.number[rows, None] * second.number
            histogram += np.bincount(place.ravel(), number.ravel(), minlength=histogram.size).reshape(shape)
        return np.cumsum(np.cumsum(histogram[:-1, :-1], axis=0), axis=1)

    def _pair(self, path: tuple[int, int]) -> tuple[Cells, Cells, tuple[int, int]]:
        return self.prefix.cells[path[0]], self.middle.cells[path[1]], self._before_middle[path]

    def draw(self, place: IntArray, window: Window, rng: np.random.Generator) -> IntArray:
        """A network for each width path and cell of the last stage, uniformly over theirs in a window.

        `place` is `path * last cells + last cell`, of shape (n,); the answer is of shape (n, stages). Where a count
        above zero was false, as sums of more than 2**53 networks may be, the row is -1.
        """
        choices = np.full((len(place), self.prefix.num_stages + 2), -1)
        order = place.argsort(kind="stable")
        path, last = np.divmod(place[order], len(self.last_cells))
        for run in runs_of(path):
            choices[order[run]] = self._draw_on(self.paths[path[run.start]], last[run], window, rng)
        return choices[:, self._given]

    def _draw_on(self, path: tuple[int, int], last: IntArray, window: Window, rng: np.random.Generator) -> IntArray:
        """Networks on one width path, for cells of the last stage in ascending order; -1 where there is none."""
        choices = np.full((len(last), self.prefix.num_stages + 2), -1)
        first = self._draw_first(path, last, window, rng)
        is_there = first >= 0
        first, last = first[is_there], last[is_there]
        second = self._draw_second(path, first, last, window, rng)
        choices[is_there, :-2] = self.prefix.draw(path[0], first, rng)
        choices[is_there, -2:-1] = self.middle.draw(path[1], second, rng)
        choices[is_there, -1:] = self._draw_last(last, rng)
        return choices

    def _draw_first(self, path: tuple[int, int], last: IntArray, window: Window, rng: np.random.Generator) -> IntArray:
        """A cell of the prefix for each cell of the last stage, by the networks it is in; -1 where none fits."""
        prefix, rectangles = self.prefix.cells[path[0]], self._rectangles[path[1]]
        costs = np.array([prefix.flops, prefix.params])[:, None]
        cells, share = np.full(len(last), -1), rng.random(len(last))
        runs = runs_of(last)
        low, high = self._left(path, last[[run.start for run in runs]], window)
        step = max(1, _CHUNK // len(prefix))
        for part in range(0, len(runs), step):
            at = rectangles.corners(low[:, part : part + step] - costs, high[:, part : part + step] - costs)
            totals = np.cumsum(prefix.number * rectangles.number(at), axis=1)
            for run, total in zip(runs[part : part + step], totals, strict=True):
                if total[-1] > 0:
                    cells[run] = total.searchsorted(share[run] * total[-1], side="right")
        return cells

    def _draw_second(
        self, path: tuple[int, int], first: IntArray, last: IntArray, window: Window, rng: np.random.Generator
    ) -> IntArray:
        """A cell of the middle between each cell of the prefix and of the last stage, by the networks it is in."""
        prefix, rectangles = self.prefix.cells[path[0]], self._rectangles[path[1]]
        costs = np.array([prefix.flops[first], prefix.params[first]])[..., None]
        low, high = self._left(path, last, window)
        return rectangles.draw(rectangles.corners(low - costs, high - costs), rng)[:, 0]

    def _draw_last(self, last: IntArray, rng: np.random.Generator) -> IntArray:
        """Choices of the last stage from each of its cells, in ascending order; shape (n, 1)."""
        choices = np.empty((len(last), 1), dtype=np.int64)
        width, cell = self.last_cells[last].T
        for run in runs_of(width):
            choices[run] = self.last.draw(int(width[run.start]), cell[run], rng)
        return choices

    def _left(self, path: tuple[int, int], last: IntArray, window: Window) -> tuple[IntArray, IntArray]:
        """What cells of the last stage, of shape (n,), leave of a window for the cells of prefix and middle on a path.

        The least and the most, each of shape (2, n, 1): FLOPs and parameters.
        """
        rest = (self._rests[path[1]][:, last] + np.array(self._before_middle[path])[:, None])[..., None]
        return np.array(window.low)[:, None, None] - rest, np.array(window.high)[:, None, None] - rest

    @cached_property
    def _rectangles(self) -> dict[int, SummedAreaTable]:
        return {width: SummedAreaTable(cells) for width, cells in self.middle.cells.items()}

    def members(self, path: int, last: int, window: Window) -> Iterator[tuple[int, ...]]:
        """All networks on a width path with a cell of the last stage whose rounded costs lie in the window."""
        widths, (last_width, last_cell) = self.paths[path], self.last_cells[last].tolist()
        low, high = self._left(widths, np.array([last]), window)
        left = Window((int(low[0, 0, 0]), int(low[1, 0, 0])), (int(high[0, 0, 0]), int(high[1, 0, 0])))
        for first, second in self._fitting(widths, left):
            for parts in product(
                self.prefix.members(widths[0], first),
                self.middle.members(widths[1], second),
                self.last.members(last_width, last_cell),
            ):
                choices = parts[0] + parts[1] + parts[2]
                yield tuple(choices[stage] for stage in self._given)

    def _fitting(self, path: tuple[int, int], left: Window) -> list[tuple[int, int]]:
        """All pairs of a prefix cell and a middle cell that lie in what is left for them."""
        first, second, _ = self._pair(path)
        # The middle's cells are sorted by FLOPs: those that fit a prefix cell in FLOPs stand in one run.
        start = np.searchsorted(second.flops, left.low[0] - first.flops, side="left")
        length = np.maximum(np.searchsorted(second.flops, left.high[0] - first.flops, side="right") - start, 0)
        rows = np.repeat(np.arange(len(length)), length)
        columns = np.arange(len(rows)) - np.repeat(np.cumsum(length) - length - start, length)
        fits = left.contains(first.flops[rows] + second.flops[columns], first.params[rows] + second.params[columns])
        return list(zip(rows[fits].tolist(), columns[fits].tolist(), strict=True))


def _without_unbounded(costs: ChoiceCosts, is_bounded: tuple[bool, bool]) -> tuple[list[_Stage], list[Links]]:
    """Stages and poolings, where a cost that no bound looks at is taken for zero, so that fewer cells differ."""
    stages = [
        (width, flops * is_bounded[0], params * is_bounded[1])
        for width, flops, params in zip(costs.width, costs.flops, costs.params, strict=True)
    ]
    links = [
        {pair: (flops * is_bounded[0], params * is_bounded[1]) for pair, (flops, params) in stage.items()}
        for stage in costs.links
    ]
    return stages, links


def _at_least_three(stages: list[_Stage], links: list[Links]) -> tuple[list[_Stage], list[Links], list[int]]:
    """Stages that cost nothing put between or before the one or two of a small space; and where the given ones are."""
    given = list(range(len(stages)))
    if len(stages) == 1:
        widths = np.unique(stages[0][0]).tolist()
        stages, links, given = [_free(np.zeros(1, dtype=np.int64)), *stages], [{(0, w): (0, 0) for w in widths}], [1]
    if len(stages) == 2:
        widths = np.unique(stages[0][0])
        links = [{(w, w): (0, 0) for w in widths.tolist()}, *links]
        stages, given = [stages[0], _free(widths), stages[1]], [2 * stage for stage in given]
    return stages, links, given


def _free(widths: IntArray) -> _Stage:
    """A stage of one choice for each width, which costs nothing."""
    return widths, np.zeros_like(widths), np.zeros_like(widths)


def _num_pairs(first: StageCosts, second: StageCosts) -> int:
    """Cost sums of two stages over all pairs of widths."""
    return _num_cells(first) * _num_cells(second)


def _num_cells(layer: StageCosts) -> int:
    return sum(len(cells) for cells in layer.cells.values())


def _num_rectangles(stage: StageCosts) -> int:
    """Numbers that are kept to draw from one width of a stage, at most."""
    return max(SummedAreaTable.size(cells) for cells in stage.cells.values())


def _num_choices(layer: Layer) -> float:
    return float(sum(cells.number.sum() for cells in layer.cells.values()))


def _inside(below: FloatArray, flops_at: IntArray, params_at: IntArray) -> FloatArray:
    """How many lie between the limits in both costs, from four corners; shape (windows, n).

    The limits are positions in `below`, of shape (windows, 2, n).
    """
    flops_low, flops_high, params_low, params_high = (at[:, end] for at in (flops_at, params_at) for end in (0, 1))
    inside: FloatArray = (
        below[flops_high, params_high] - below[flops_low, params_high]
        - below[flops_high, params_low] + below[flops_low, params_low]
    )  # fmt: skip
    return np.maximum(inside, 0.0)


def cost_table_of(space: SearchSpace, is_bounded: tuple[bool, bool], max_pairs: int) -> CostTable:
    """Returns the table of a space, which the space keeps for all budgets that differ in their numbers only."""
    return space.tables.get(
        (CostTable, is_bounded, max_pairs), lambda: CostTable(choice_costs_of(space), is_bounded, max_pairs)
    )
