"""How many networks of a space cost what, and which: the numbers that a feasible set is counted and drawn from.

Equal costs are merged into cells. The network is cut in three: the stages up to the last but two (the prefix), the
last but one (the middle) and the last. For each path of widths, a histogram of the cost sums of prefix and middle, over
the thresholds that the cells of the last stage leave, says how many networks each of them completes: an exact count.
Drawing goes backwards through the same numbers, without rejection: the last stage's cell and the widths by their
counts, then the pair that fits, then a choice within each cell.

That is exact while the sums are few enough (`MAX_PAIRS`), as in all shipped spaces. Beyond it, in spaces of four and
more rich stages, costs are rounded down to a grid, and the window widened by the rounding holds a superset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from math import prod

import numpy as np

from sret_nas.choice_costs import ChoiceCosts, Links, choice_costs_of
from sret_nas.cost import IntArray
from sret_nas.cost_cells import Cells, FloatArray, Layer, PrefixLayer, StageLayer, Window, draw_by_weight
from sret_nas.space import SearchSpace

MAX_PAIRS = 40_000_000
"""Cost sums of prefix and middle that are looked at one by one; about a second of one core."""

_CHUNK = 2**20
"""Cost sums that are placed in a histogram at once, which bounds memory."""

_MAX_THRESHOLDS = 2**23
"""Bins of one histogram; the cells of the last stage are taken in parts where they would leave more."""

_EXACT = 2.0**53
"""Networks of prefix and middle below which their numbers, summed in floating point, are exact."""

_PROPOSALS = 512
"""Pairs of cells drawn at once in the hope that one fits a window."""

_Stage = tuple[IntArray, IntArray, IntArray]
"""Width, FLOPs and parameters of every choice of a stage, each of shape (choices,)."""


class CostTable:
    """The cells of prefix, middle and last stage, and how many pairs of the first two complete the third.

    `is_bounded` says whether FLOPs and whether parameters are looked at; `max_pairs` bounds the sums of prefix and
    middle. `slack` is by how much rounding lowers FLOPs and parameters of a network at most. `paths` are the widths of
    prefix and middle, `last_cells` the width and cell of the last stage.
    """

    def __init__(self, costs: ChoiceCosts, is_bounded: tuple[bool, bool], max_pairs: int) -> None:
        stages, links = _at_least_three(*_without_unbounded(costs, is_bounded))
        layers = [StageLayer(*stage) for stage in stages]
        limit = int((max_pairs / max(len(layer.cells) for layer in layers) ** 2) ** 0.5)
        if len(layers) > 3 or _num_pairs(layers[0], layers[1]) > max_pairs:
            layers = [StageLayer(*stage, limit) for stage in stages]
        self.prefix: Layer = layers[0]
        for stage, between in zip(layers[1:-2], links, strict=False):
            self.prefix = PrefixLayer(self.prefix, stage, between, limit)
        self.middle, self.last = layers[-2:]
        self._before_middle, self._before_last = links[-2:]

        self.slack = tuple(
            self.prefix.slack[cost] + self.middle.slack[cost] + self.last.slack[cost] for cost in range(2)
        )
        pairs = _num_choices(self.prefix) * _num_choices(self.middle)
        self.is_exact = self.slack == (0, 0) and pairs < _EXACT
        self.paths = list(product(self.prefix.cells, self.middle.cells))
        self.last_cells = [(w, cell) for w, cells in self.last.cells.items() for cell in range(len(cells.flops))]
        self.last_number = np.concatenate([cells.number for cells in self.last.cells.values()])

    def widened(self, window: Window) -> Window:
        """The window that holds the rounded costs of all networks whose true costs the given one holds."""
        return replace(window, low=(window.low[0] - self.slack[0], window.low[1] - self.slack[1]))

    def completions(self, window: Window) -> FloatArray:
        """How many pairs of prefix and middle complete each cell of the last stage; shape (paths, last cells)."""
        counts = np.zeros((len(self.paths), len(self.last_cells)))
        for middle_width in self.middle.cells:
            limits = self._limits(window, middle_width)
            num_thresholds = prod(len(np.unique(limit)) for limit in limits)
            num_chunks = min(1 + num_thresholds // _MAX_THRESHOLDS, len(self.last_cells))
            for chunk in np.array_split(np.arange(len(self.last_cells)), num_chunks):
                flops_limits, flops_at = np.unique(limits[0][:, chunk], return_inverse=True)
                params_limits, params_at = np.unique(limits[1][:, chunk], return_inverse=True)
                for path, widths in enumerate(self.paths):
                    if widths[1] == middle_width:
                        below = self._cumulated(widths, flops_limits, params_limits)
                        counts[path, chunk] = _inside(below, flops_at.reshape(2, -1), params_at.reshape(2, -1))
        return counts

    def _limits(self, window: Window, middle_width: int) -> tuple[IntArray, IntArray]:
        """What prefix and middle may cost for each last cell, FLOPs and parameters: (too little, most) x last cells."""
        rest = [
            np.concatenate([
                (cells.flops, cells.params)[cost] + self._before_last[middle_width, w][cost]
                for w, cells in self.last.cells.items()
            ])
            for cost in range(2)
        ]  # fmt: skip
        # Limits that no sum can reach are one limit, which keeps the histogram small.
        limits = [
            np.clip([window.low[cost] - 1 - rest[cost], window.high[cost] - rest[cost]], -1, self._most(cost))
            for cost in range(2)
        ]
        return limits[0], limits[1]

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
        step = max(1, _CHUNK // len(second.flops))
        for start in range(0, len(first.flops), step):
            rows = slice(start, start + step)
            row = np.searchsorted(flops_limits, first.flops[rows, None] + (second.flops + link[0]))
            place = row * shape[1] + column[first_of[rows, None], second_of]
            number = first.number[rows, None] * second.number
            histogram += np.bincount(place.ravel(), number.ravel(), minlength=histogram.size).reshape(shape)
        return np.cumsum(np.cumsum(histogram[:-1, :-1], axis=0), axis=1)

    def _pair(self, path: tuple[int, int]) -> tuple[Cells, Cells, tuple[int, int]]:
        return self.prefix.cells[path[0]], self.middle.cells[path[1]], self._before_middle[path]

    def _rest(self, path: tuple[int, int], last: tuple[int, int], window: Window) -> Window:
        """What a window leaves for the cells of prefix and middle, with a cell of the last stage and the pooling."""
        width, cell = last
        links, cells = (self._before_middle[path], self._before_last[path[1], width]), self.last.cells[width]
        return window.minus(
            int(cells.flops[cell]) + sum(link[0] for link in links),
            int(cells.params[cell]) + sum(link[1] for link in links),
        )

    def _fitting(self, path: tuple[int, int], rest: Window) -> tuple[IntArray, IntArray]:
        """All pairs of a prefix cell and a middle cell that lie in what is left for them: two arrays of positions."""
        first, second, _ = self._pair(path)
        # The middle's cells are sorted by FLOPs: those that fit a prefix cell in FLOPs stand in one run.
        start = np.searchsorted(second.flops, rest.low[0] - first.flops, side="left")
        length = np.maximum(np.searchsorted(second.flops, rest.high[0] - first.flops, side="right") - start, 0)
        rows = np.repeat(np.arange(len(length)), length)
        columns = np.arange(len(rows)) - np.repeat(np.cumsum(length) - length - start, length)
        fits = rest.contains(first.flops[rows] + second.flops[columns], first.params[rows] + second.params[columns])
        return rows[fits], columns[fits]

    def draw(self, path: int, last: int, window: Window, rng: np.random.Generator) -> tuple[int, ...] | None:
        """A network on a width path with a cell of the last stage, uniformly; None if a rounded count was false."""
        widths, (last_width, last_cell) = self.paths[path], self.last_cells[last]
        pair = self._draw_pair(widths, self._rest(widths, (last_width, last_cell), window), rng)
        if pair is None:
            return None
        return (
            self.prefix.draw(widths[0], pair[0], rng)
            + self.middle.draw(widths[1], pair[1], rng)
            + self.last.draw(last_width, last_cell, rng)
        )

    def _draw_pair(self, path: tuple[int, int], rest: Window, rng: np.random.Generator) -> tuple[int, int] | None:
        """A prefix cell and a middle cell that fit together, with probability proportional to their numbers.

        The first of a few proposals that fits will do; only where none does are all pairs looked at.
        """
        first, second, _ = self._pair(path)
        row, column = (draw_by_weight(cells.number, rng, _PROPOSALS) for cells in (first, second))
        fits = rest.contains(first.flops[row] + second.flops[column], first.params[row] + second.params[column])
        if fits.any():
            found = int(np.argmax(fits))
            return int(row[found]), int(column[found])
        rows, columns = self._fitting(path, rest)
        if len(rows) == 0:
            return None
        chosen = int(draw_by_weight(first.number[rows] * second.number[columns], rng))
        return int(rows[chosen]), int(columns[chosen])

    def members(self, path: int, last: int, window: Window) -> Iterator[tuple[int, ...]]:
        """All networks on a width path with a cell of the last stage whose rounded costs lie in the window."""
        widths, (last_width, last_cell) = self.paths[path], self.last_cells[last]
        pairs = self._fitting(widths, self._rest(widths, (last_width, last_cell), window))
        for first, second in np.stack(pairs, axis=1).tolist():
            for parts in product(
                self.prefix.members(widths[0], first),
                self.middle.members(widths[1], second),
                self.last.members(last_width, last_cell),
            ):
                yield parts[0] + parts[1] + parts[2]


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


def _at_least_three(stages: list[_Stage], links: list[Links]) -> tuple[list[_Stage], list[Links]]:
    """Stages of a single choice that costs nothing are put before the one or two of a small space."""
    zero = np.zeros(1, dtype=np.int64)
    for _ in range(3 - len(stages)):
        links = [{(0, width): (0, 0) for width in np.unique(stages[0][0]).tolist()}, *links]
        stages = [(zero, zero, zero), *stages]
    return stages, links


def _num_pairs(first: StageLayer, second: StageLayer) -> int:
    """Cost sums of two stages over all pairs of widths."""
    cells = [sum(len(c.flops) for c in layer.cells.values()) for layer in (first, second)]
    return cells[0] * cells[1]


def _num_choices(layer: Layer) -> float:
    return float(sum(cells.number.sum() for cells in layer.cells.values()))


def _inside(below: FloatArray, flops_at: IntArray, params_at: IntArray) -> FloatArray:
    """How many lie between the limits, of shape (2, n) as positions in `below`, in both costs: four corners."""
    (flops_low, flops_high), (params_low, params_high) = flops_at, params_at
    inside: FloatArray = (
        below[flops_high, params_high] - below[flops_low, params_high]
        - below[flops_high, params_low] + below[flops_low, params_low]
    )  # fmt: skip
    return np.maximum(inside, 0.0)


@lru_cache(maxsize=8)
def cost_table_of(space: SearchSpace, is_bounded: tuple[bool, bool], max_pairs: int) -> CostTable:
    """The table of a space; those used last are kept, for budgets that differ in their numbers only."""
    return CostTable(choice_costs_of(space), is_bounded, max_pairs)
