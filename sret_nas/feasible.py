"""The networks of a search space that lie inside a budget: how many, which, and drawn uniformly.

Costs are algebra. FLOPs and parameters of a network are sums over its stages, tied only through the widths of
neighbours (the pooling between them), so nothing has to be tried and rejected. Equal costs are merged: the choices of
one stage and width fall into a few hundred *cells*, each a cost and the number of choices that have it. The network is
cut in three: the stages up to the last but two (the prefix), the last but one (the middle) and the last. For each path
of widths, a histogram of the cost sums of prefix and middle, over the thresholds that the cells of the last stage
leave, says how many networks each of them completes: an exact count. Drawing goes backwards through the same numbers,
without rejection: the last stage's cell and the widths by their counts, then the pair that fits, then a choice within
each cell.

That is exact while the sums are few enough (`MAX_PAIRS`), as in all shipped spaces. Beyond it, in spaces of four and
more rich stages, costs are rounded down to a grid: the window widened by the rounding holds a superset, draws from it
are kept if the true cost is inside (so they stay uniform and inside the budget), and the count is the superset's times
the share that is kept: an estimate, and `count_is_exact` is False.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import pairwise, product
from math import ceil, floor, prod
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sret_nas.arch import ArchConfig
from sret_nas.budget import Budget, format_quantity
from sret_nas.cost import IntArray, head_terms, pool_terms, stem_terms
from sret_nas.errors import BudgetError
from sret_nas.pareto import non_dominated
from sret_nas.space import SearchSpace

FloatArray = npt.NDArray[np.float64]
CostName = Literal["flops", "params"]

MAX_PAIRS = 40_000_000
"""Cost sums of prefix and middle that are looked at one by one; about a second of one core."""

MAX_TRIES = 2_000
"""Draws from the superset of a rounded table before a window counts as too narrow to draw from."""

_CHUNK = 2**20
_MAX_THRESHOLDS = 2**23
_GRID = 1024
_EXACT = 2.0**53
_UNBOUNDED = 2**62
_ESTIMATE_DRAWS = 200
_FEW = 1_000
_BATCH = 64
_PROPOSALS = 512


class CostedArch(NamedTuple):
    """An architecture with its FLOPs and parameters."""

    arch: ArchConfig
    flops: int
    params: int


@dataclass(frozen=True)
class _Window:
    """Closed bounds on FLOPs and parameters, with numbers that nothing exceeds for bounds that are not there."""

    low: tuple[int, int]
    high: tuple[int, int]

    @classmethod
    def of(cls, budget: Budget) -> _Window:
        return cls(
            (budget.flops_min or 0, budget.params_min or 0),
            (
                _UNBOUNDED if budget.flops_max is None else budget.flops_max,
                _UNBOUNDED if budget.params_max is None else budget.params_max,
            ),
        )

    def minus(self, flops: int, params: int) -> _Window:
        """What is left for the rest of a network when a part costs this much."""
        return _Window((self.low[0] - flops, self.low[1] - params), (self.high[0] - flops, self.high[1] - params))

    def contains(self, flops: IntArray, params: IntArray) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = (
            (flops >= self.low[0]) & (flops <= self.high[0]) & (params >= self.low[1]) & (params <= self.high[1])
        )
        return inside


@dataclass(frozen=True)
class _Cells:
    """Choices of one width by cost: cell i holds `number[i]` choices. Arrays of shape (cells,), sorted by FLOPs."""

    flops: IntArray
    params: IntArray
    number: FloatArray


def _group(flops: IntArray, params: IntArray, step: tuple[int, int]) -> tuple[IntArray, IntArray, IntArray]:
    """The distinct costs, rounded down to multiples of `step`, and which of them each cost has."""
    flops, params = flops // step[0], params // step[1]
    span = int(params.max()) + 1
    code, inverse = np.unique(flops * span + params, return_inverse=True)
    return code // span * step[0], code % span * step[1], inverse


class _StageLayer:
    """The choices of one stage by width and cost. A choice is a row of the table, and in stage 1 a stem with it."""

    def __init__(self, width: IntArray, flops: IntArray, params: IntArray, limit: int | None = None) -> None:
        groups = {int(w): np.flatnonzero(width == w) for w in np.unique(width)}
        costs = [(flops[choices], params[choices]) for choices in groups.values()]
        step = (1, 1) if limit is None else _step_for(costs, limit)
        self.slack: tuple[int, int] = (step[0] - 1, step[1] - 1)
        self.cells: dict[int, _Cells] = {}
        self._members: dict[int, list[IntArray]] = {}
        for w, choices in groups.items():
            cell_flops, cell_params, cell = _group(flops[choices], params[choices], step)
            number = np.bincount(cell)
            self.cells[w] = _Cells(cell_flops, cell_params, number.astype(np.float64))
            members = choices[np.argsort(cell, kind="stable")]
            self._members[w] = np.split(members, np.cumsum(number)[:-1])

    def draw(self, width: int, cell: int, rng: np.random.Generator) -> tuple[int, ...]:
        return (int(rng.choice(self._members[width][cell])),)

    def members(self, width: int, cell: int) -> Iterator[tuple[int, ...]]:
        return ((choice,) for choice in self._members[width][cell].tolist())


def _step_for(costs: list[tuple[IntArray, IntArray]], limit: int) -> tuple[int, int]:
    """The finest of a few steps whose grid leaves every pair of cost arrays at most `limit` distinct costs."""
    if all(len(_group(flops, params, (1, 1))[0]) <= limit for flops, params in costs):
        return 1, 1
    step = tuple(max(1, -(-max(int(pair[i].max()) - int(pair[i].min()) for pair in costs) // _GRID)) for i in range(2))
    # Steps are doubled, so that a coarser cell is made of finer ones and the costs themselves are rounded once.
    cells = [_group(flops, params, (step[0], step[1]))[:2] for flops, params in costs]
    while max(len(flops) for flops, _ in cells) > limit:
        step = (step[0] * 2, step[1] * 2)
        cells = [_group(flops, params, (step[0], step[1]))[:2] for flops, params in cells]
    return step[0], step[1]


class _PrefixLayer:
    """The first stages of all networks, by the last one's width and by cost.

    A prefix is a pair: a cell of the earlier prefixes, of whatever width, and a cell of the stage. Pair number
    `earlier * stage cells + stage cell` is one of a width; the pairs of a cell are kept, for drawing from it.
    """

    def __init__(self, before: _Layer, stage: _StageLayer, links: _Links, limit: int) -> None:
        self._before, self._stage, self._links = before, stage, links
        self._earlier = [(w, cell) for w, cells in before.cells.items() for cell in range(len(cells.flops))]
        self._earlier_number = np.concatenate([cells.number for cells in before.cells.values()])
        costs = {width: self._sums(width) for width in stage.cells}
        step = _step_for(list(costs.values()), limit)
        self.slack: tuple[int, int] = (
            before.slack[0] + stage.slack[0] + step[0] - 1,
            before.slack[1] + stage.slack[1] + step[1] - 1,
        )
        self.cells: dict[int, _Cells] = {}
        self._pairs: dict[int, list[IntArray]] = {}
        for width, (flops, params) in costs.items():
            cell_flops, cell_params, cell = _group(flops, params, step)
            number = np.outer(self._earlier_number, stage.cells[width].number).ravel()
            self.cells[width] = _Cells(cell_flops, cell_params, np.bincount(cell, number).astype(float))
            order = np.argsort(cell, kind="stable")
            self._pairs[width] = np.split(order, np.cumsum(np.bincount(cell))[:-1])

    def _sums(self, width: int) -> tuple[IntArray, IntArray]:
        """FLOPs and parameters of all pairs of a width."""
        stage, flops, params = self._stage.cells[width], [], []
        for width_before, before in self._before.cells.items():
            link = self._links[width_before, width]
            flops.append((before.flops[:, None] + (stage.flops + link[0])).ravel())
            params.append((before.params[:, None] + (stage.params + link[1])).ravel())
        return np.concatenate(flops), np.concatenate(params)

    def draw(self, width: int, cell: int, rng: np.random.Generator) -> tuple[int, ...]:
        pairs, stage = self._pairs[width][cell], self._stage.cells[width]
        earlier, second = np.divmod(pairs, len(stage.flops))
        chosen = int(_draw_by_weight(self._earlier_number[earlier] * stage.number[second], rng))
        width_before, first = self._earlier[int(earlier[chosen])]
        return self._before.draw(width_before, first, rng) + self._stage.draw(width, int(second[chosen]), rng)

    def members(self, width: int, cell: int) -> Iterator[tuple[int, ...]]:
        for pair in self._pairs[width][cell].tolist():
            earlier, second = divmod(pair, len(self._stage.cells[width].flops))
            for parts in product(self._before.members(*self._earlier[earlier]), self._stage.members(width, second)):
                yield parts[0] + parts[1]


_Layer = _StageLayer | _PrefixLayer
_Links = dict[tuple[int, int], tuple[int, int]]
"""FLOPs and parameters of the pooling between two widths."""


def _draw_by_weight(weight: FloatArray, rng: np.random.Generator, number: int | None = None) -> Any:
    """One position, or an array of `number` positions, with probability proportional to the weight there."""
    total = np.cumsum(weight)
    return np.searchsorted(total, rng.random(number) * total[-1], side="right").clip(max=len(total) - 1)


class _Parts:
    """The costs of a space's choices: stem and stage 1 together, pooling, last stage and head together.

    `flops[s]` and `params[s]` are arrays over the choices of stage s; a choice of stage 1 is `stem * rows + row`.
    """

    def __init__(self, space: SearchSpace) -> None:
        tables, tokens = space.stage_choices, space.num_tokens
        self.stem_widths = space.stem.width
        self.rows = [len(table) for table in tables]
        stems = len(self.stem_widths or (None,))
        self.width = [np.tile(tables[0].columns.width, stems), *(table.columns.width for table in tables[1:])]
        self.flops = [np.tile(tables[0].flops, stems), *(table.flops for table in tables[1:])]
        self.params = [np.tile(tables[0].params, stems), *(table.params for table in tables[1:])]

        stem_width = np.maximum(1, self.width[0] // 2)
        if self.stem_widths:
            stem_width = np.repeat(np.array(self.stem_widths, dtype=np.int64), self.rows[0])
        stem = stem_terms(space.image_size, space.channels, stem_width, space.stem.strides, self.width[0])
        head = head_terms(tokens[-1], self.width[-1], space.classes)
        for stage, terms in ((0, stem), (len(tables) - 1, head)):
            self.flops[stage] = self.flops[stage] + terms.flops
            self.params[stage] = self.params[stage] + terms.params

        self.links: list[_Links] = []
        for stage in range(1, len(tables)):
            widths = product(np.unique(self.width[stage - 1]).tolist(), np.unique(self.width[stage]).tolist())
            pools = {pair: pool_terms(tokens[stage], *pair) for pair in widths}
            self.links.append({pair: (terms.flops, terms.params) for pair, terms in pools.items()})

    def cost(self, choices: tuple[int, ...]) -> tuple[int, int]:
        """FLOPs and parameters of the network made of one choice per stage."""
        flops = sum(int(costs[choice]) for costs, choice in zip(self.flops, choices, strict=True))
        params = sum(int(costs[choice]) for costs, choice in zip(self.params, choices, strict=True))
        widths = [int(width[choice]) for width, choice in zip(self.width, choices, strict=True)]
        for link, pair in zip(self.links, pairwise(widths), strict=True):
            flops, params = flops + link[pair][0], params + link[pair][1]
        return flops, params

    def network(self, space: SearchSpace, choices: tuple[int, ...]) -> ArchConfig:
        stem, row = divmod(choices[0], self.rows[0])
        return space.network((row, *choices[1:]), self.stem_widths[stem] if self.stem_widths else None)


@lru_cache(maxsize=8)
def _parts_of(space: SearchSpace) -> _Parts:
    return _Parts(space)


class _Table:
    """The cells of prefix, middle and last stage, and how many pairs of the first two complete the third.

    A cost that no bound looks at is taken for zero, so that fewer cells differ. Spaces of one or two stages get stages
    of a single choice that costs nothing put before them.
    """

    def __init__(self, space: SearchSpace, is_bounded: tuple[bool, bool], max_pairs: int) -> None:
        parts = _parts_of(space)
        zero = np.zeros(1, dtype=np.int64)
        missing = max(0, 3 - len(parts.width))
        width = [zero] * missing + parts.width
        flops = [zero] * missing + [costs * is_bounded[0] for costs in parts.flops]
        params = [zero] * missing + [costs * is_bounded[1] for costs in parts.params]
        stages = list(zip(width, flops, params, strict=True))
        links: list[_Links] = [{(0, int(w)): (0, 0) for w in np.unique(width[n + 1])} for n in range(missing)]
        links += [
            {pair: (link[0] * is_bounded[0], link[1] * is_bounded[1]) for pair, link in stage.items()}
            for stage in parts.links
        ]

        layers = [_StageLayer(*stage) for stage in stages]
        limit = int((max_pairs / max(len(layer.cells) for layer in layers) ** 2) ** 0.5)
        if len(layers) > 3 or _num_pairs(layers[0], layers[1]) > max_pairs:
            layers = [_StageLayer(*stage, limit) for stage in stages]
        self.prefix: _Layer = layers[0]
        for stage, between in zip(layers[1:-2], links, strict=False):
            self.prefix = _PrefixLayer(self.prefix, stage, between, limit)
        self.middle, self.last = layers[-2:]
        self._before_middle, self._before_last = links[-2:]

        self.slack = tuple(
            self.prefix.slack[cost] + self.middle.slack[cost] + self.last.slack[cost] for cost in range(2)
        )
        pairs = sum(c.number.sum() for c in self.prefix.cells.values()) * len(width[-2])
        self.is_exact = self.slack == (0, 0) and pairs < _EXACT
        self.paths = list(product(self.prefix.cells, self.middle.cells))
        self.last_cells = [(w, cell) for w, cells in self.last.cells.items() for cell in range(len(cells.flops))]
        self.last_number = np.concatenate([cells.number for cells in self.last.cells.values()])

    def widened(self, window: _Window) -> _Window:
        """The window that holds the rounded costs of all networks whose true costs the given one holds."""
        return replace(window, low=(window.low[0] - self.slack[0], window.low[1] - self.slack[1]))

    def completions(self, window: _Window) -> FloatArray:
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

    def _limits(self, window: _Window, middle_width: int) -> tuple[IntArray, IntArray]:
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

    def _pair(self, path: tuple[int, int]) -> tuple[_Cells, _Cells, tuple[int, int]]:
        return self.prefix.cells[path[0]], self.middle.cells[path[1]], self._before_middle[path]

    def _rest(self, path: tuple[int, int], last: tuple[int, int], window: _Window) -> _Window:
        """What a window leaves for the cells of prefix and middle, with a cell of the last stage and the pooling."""
        width, cell = last
        links, cells = (self._before_middle[path], self._before_last[path[1], width]), self.last.cells[width]
        return window.minus(
            int(cells.flops[cell]) + sum(link[0] for link in links),
            int(cells.params[cell]) + sum(link[1] for link in links),
        )

    def _fitting(self, path: tuple[int, int], rest: _Window) -> tuple[IntArray, IntArray]:
        """All pairs of a prefix cell and a middle cell that lie in what is left for them: two arrays of positions."""
        first, second, _ = self._pair(path)
        # The middle's cells are sorted by FLOPs: those that fit a prefix cell in FLOPs stand in one run.
        start = np.searchsorted(second.flops, rest.low[0] - first.flops, side="left")
        length = np.maximum(np.searchsorted(second.flops, rest.high[0] - first.flops, side="right") - start, 0)
        rows = np.repeat(np.arange(len(length)), length)
        columns = np.arange(len(rows)) - np.repeat(np.cumsum(length) - length - start, length)
        fits = rest.contains(first.flops[rows] + second.flops[columns], first.params[rows] + second.params[columns])
        return rows[fits], columns[fits]

    def draw(self, path: int, last: int, window: _Window, rng: np.random.Generator) -> tuple[int, ...] | None:
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

    def _draw_pair(self, path: tuple[int, int], rest: _Window, rng: np.random.Generator) -> tuple[int, int] | None:
        """A prefix cell and a middle cell that fit together, with probability proportional to their numbers.

        The first of a few proposals that fits will do; only where none does are all pairs looked at.
        """
        first, second, _ = self._pair(path)
        row, column = (_draw_by_weight(cells.number, rng, _PROPOSALS) for cells in (first, second))
        fits = rest.contains(first.flops[row] + second.flops[column], first.params[row] + second.params[column])
        if fits.any():
            found = int(np.argmax(fits))
            return int(row[found]), int(column[found])
        rows, columns = self._fitting(path, rest)
        if len(rows) == 0:
            return None
        chosen = int(_draw_by_weight(first.number[rows] * second.number[columns], rng))
        return int(rows[chosen]), int(columns[chosen])

    def members(self, path: int, last: int, window: _Window) -> Iterator[tuple[int, ...]]:
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


def _num_pairs(first: _StageLayer, second: _StageLayer) -> int:
    """Cost sums of two stages over all pairs of widths."""
    cells = [sum(len(c.flops) for c in layer.cells.values()) for layer in (first, second)]
    return cells[0] * cells[1]


def _inside(below: FloatArray, flops_at: IntArray, params_at: IntArray) -> FloatArray:
    """How many lie between the limits, of shape (2, n) as positions in `below`, in both costs: four corners."""
    (flops_low, flops_high), (params_low, params_high) = flops_at, params_at
    inside: FloatArray = (
        below[flops_high, params_high] - below[flops_low, params_high]
        - below[flops_high, params_low] + below[flops_low, params_low]
    )  # fmt: skip
    return np.maximum(inside, 0.0)


@lru_cache(maxsize=8)
def _table_of(space: SearchSpace, is_bounded: tuple[bool, bool], max_pairs: int) -> _Table:
    return _Table(space, is_bounded, max_pairs)


class FeasibleSet:
    """The networks of a space whose true costs lie inside a budget.

    Building it costs nothing; what it is asked for is computed once. `max_pairs` bounds time and memory (see the
    module's text); spaces that need no more are answered exactly.
    """

    def __init__(self, space: SearchSpace, budget: Budget, *, max_pairs: int = MAX_PAIRS) -> None:
        self.space = space
        self.budget = budget
        self._max_pairs = max_pairs
        self._parts = _parts_of(space)

    @cached_property
    def _table(self) -> _Table:
        budget = self.budget
        is_bounded = (
            (budget.flops_min or budget.flops_max) is not None,
            (budget.params_min or budget.params_max) is not None,
        )
        return _table_of(self.space, is_bounded, self._max_pairs)

    @cached_property
    def _window(self) -> _Window:
        return self._table.widened(_Window.of(self.budget))

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
        return choices if self.budget.allows(*self._parts.cost(choices)) else None

    def sample(self, rng: np.random.Generator) -> ArchConfig:
        """One network of the set, each with the same probability; about 2 ms. Raises `BudgetError` if it is empty.

        In a space too rich to be counted exactly, it also raises `BudgetError` if the window is so narrow beside the
        rounding that `MAX_TRIES` draws all miss it.
        """
        return self.sample_many(rng, 1)[0]

    def sample_many(self, rng: np.random.Generator, number: int) -> list[ArchConfig]:
        """Independent draws of `sample`; the same network may come twice."""
        self.check()
        return [self._parts.network(self.space, self._draw_inside(rng)) for _ in range(number)]

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
            yield self._parts.network(self.space, choices)

    def _choices(self) -> Iterator[tuple[int, ...]]:
        for path, last in np.argwhere(self._weights > 0).tolist():
            for choices in self._table.members(path, last, self._window):
                choices = choices[-len(self.space.stages) :]
                if self.budget.allows(*self._parts.cost(choices)):
                    yield choices

    def cheapest(self, by: CostName = "flops") -> CostedArch:
        """The network of the whole space with the fewest FLOPs or parameters; of several, the fewest of the other."""
        return self._end(by, sign=1)

    def dearest(self, by: CostName = "flops") -> CostedArch:
        """The network of the whole space with the most FLOPs or parameters; of several, the most of the other."""
        return self._end(by, sign=-1)

    def _end(self, by: CostName, sign: int) -> CostedArch:
        def order(costed: CostedArch) -> tuple[int, int]:
            first, second = (costed.flops, costed.params) if by == "flops" else (costed.params, costed.flops)
            return sign * first, sign * second

        return min((self._costed(choices) for choices in _extremes(self.space, (sign, sign))), key=order)

    def _costed(self, choices: tuple[int, ...]) -> CostedArch:
        return CostedArch(self._parts.network(self.space, choices), *self._parts.cost(choices))

    @cached_property
    def _nearest_end(self) -> CostedArch:
        """The network with the least excess among those that are extreme in both costs.

        Less FLOPs is never worse if FLOPs have no minimum, more never if they have no budget; likewise parameters. So
        where no cost has both, no network at all has less excess. Where one has, both directions are tried.
        """
        directions = [
            [sign for sign, bound in ((1, high), (-1, low)) if bound is not None] or [1]
            for low, high in (
                (self.budget.flops_min, self.budget.flops_max),
                (self.budget.params_min, self.budget.params_max),
            )
        ]
        ends = {
            choices: self._parts.cost(choices)
            for flops_sign, params_sign in product(*directions)
            for choices in _extremes(self.space, (flops_sign, params_sign))
        }
        return self._costed(min(ends, key=lambda choices: (self.budget.excess(*ends[choices]), ends[choices])))

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
            found = self._with(_closer_than(self.budget, best))._some()
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


def _closer_than(budget: Budget, costed: CostedArch) -> Budget:
    """The budget of all networks with less excess than one that breaks a bound."""
    excess = max(
        [Fraction(cost, high) - 1 for cost, high in zip(costed[1:], (budget.flops_max, budget.params_max), strict=True)
         if high is not None]
        + [Fraction(low, cost) - 1 for cost, low in zip(costed[1:], (budget.flops_min, budget.params_min), strict=True)
           if low is not None]
    )  # fmt: skip

    def highest(bound: int | None) -> int | None:
        return None if bound is None else ceil(bound * (1 + excess)) - 1

    def lowest(bound: int | None) -> int | None:
        return None if bound is None else floor(bound / (1 + excess)) + 1

    return Budget(
        flops_max=highest(budget.flops_max), params_max=highest(budget.params_max),
        flops_min=lowest(budget.flops_min), params_min=lowest(budget.params_min),
    )  # fmt: skip


@lru_cache(maxsize=32)
def _extremes(space: SearchSpace, signs: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    """The choices of all networks that no other one beats in both costs: few of each with sign 1, many with -1.

    Where several networks cost the same, one of them stands for all. What is beaten in a prefix stays beaten whatever
    follows, so every stage starts from the undominated prefixes of each width.
    """
    parts = _parts_of(space)
    fronts: dict[int, tuple[IntArray, IntArray]] = {}
    for stage, (width, flops, params) in enumerate(zip(parts.width, parts.flops, parts.params, strict=True)):
        extended = {}
        for w in np.unique(width).tolist():
            choices = np.flatnonzero(width == w)
            costs = np.stack([flops[choices], params[choices]], axis=1) * signs
            front = _undominated(costs, choices[:, None])
            if stage:
                links = parts.links[stage - 1]
                candidates = [
                    _sums(before, front, np.array(links[width_before, w], dtype=np.int64) * signs)
                    for width_before, before in fronts.items()
                ]
                front = _undominated(*(np.concatenate(arrays) for arrays in zip(*candidates, strict=True)))
            extended[w] = front
        fronts = extended
    _, networks = _undominated(*(np.concatenate(arrays) for arrays in zip(*fronts.values(), strict=True)))
    return tuple(tuple(int(choice) for choice in network) for network in networks)


def _undominated(costs: IntArray, choices: IntArray) -> tuple[IntArray, IntArray]:
    costs, first = np.unique(costs, axis=0, return_index=True)
    kept = non_dominated(costs)
    return costs[kept], choices[first[kept]]


def _sums(
    before: tuple[IntArray, IntArray], stage: tuple[IntArray, IntArray], link: IntArray
) -> tuple[IntArray, IntArray]:
    """Costs and choices of all pairs of a prefix and a stage."""
    first, second = np.divmod(np.arange(len(before[0]) * len(stage[0])), len(stage[0]))
    return before[0][first] + stage[0][second] + link, np.hstack([before[1][first], stage[1][second]])
