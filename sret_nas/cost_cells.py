"""Choices merged by equal cost: the cells that a cost table counts with, stage by stage.

The choices of one stage and width fall into a few hundred *cells*, each a cost and the number of choices that have it.
The cells of several stages in a row are made of pairs: a cell of the stages before and a cell of the stage. Where cells
would be too many, costs are rounded down to a grid, and `slack` says by how much at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from sret_nas.budget import Budget
from sret_nas.choice_costs import Links
from sret_nas.cost import IntArray

FloatArray = npt.NDArray[np.float64]
"""Numbers of choices and networks, which may exceed 2**63."""

_GRID = 1024
"""Steps that the finest rounding cuts the widest range of a cost into."""

_UNBOUNDED = 2**62
"""FLOPs or parameters that no network exceeds, with room for sums below 2**63."""


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
                _UNBOUNDED if budget.flops_max is None else budget.flops_max,
                _UNBOUNDED if budget.params_max is None else budget.params_max,
            ),
        )

    def minus(self, flops: int, params: int) -> Window:
        """What is left for the rest of a network when a part costs this much."""
        return Window((self.low[0] - flops, self.low[1] - params), (self.high[0] - flops, self.high[1] - params))

    def contains(self, flops: IntArray, params: IntArray) -> npt.NDArray[np.bool_]:
        """Which of the costs lie inside; of the shape that the two arrays broadcast to."""
        inside: npt.NDArray[np.bool_] = (
            (flops >= self.low[0]) & (flops <= self.high[0]) & (params >= self.low[1]) & (params <= self.high[1])
        )
        return inside


@dataclass(frozen=True)
class Cells:
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


class StageLayer:
    """The choices of one stage by width and cost. A choice is a row of the table, and in stage 1 a stem with it.

    `cells` holds at most `limit` cells for each width; `slack` is by how much the FLOPs and the parameters of a cell
    lie at most below those of its choices.
    """

    def __init__(self, width: IntArray, flops: IntArray, params: IntArray, limit: int | None = None) -> None:
        groups = {int(w): np.flatnonzero(width == w) for w in np.unique(width)}
        costs = [(flops[choices], params[choices]) for choices in groups.values()]
        step = (1, 1) if limit is None else _step_for(costs, limit)
        self.slack: tuple[int, int] = (step[0] - 1, step[1] - 1)
        self.cells: dict[int, Cells] = {}
        self._members: dict[int, list[IntArray]] = {}
        for w, choices in groups.items():
            cell_flops, cell_params, cell = _group(flops[choices], params[choices], step)
            number = np.bincount(cell)
            self.cells[w] = Cells(cell_flops, cell_params, number.astype(np.float64))
            members = choices[np.argsort(cell, kind="stable")]
            self._members[w] = np.split(members, np.cumsum(number)[:-1])

    def draw(self, width: int, cell: int, rng: np.random.Generator) -> tuple[int, ...]:
        """One choice of a cell, uniformly."""
        return (int(rng.choice(self._members[width][cell])),)

    def members(self, width: int, cell: int) -> Iterator[tuple[int, ...]]:
        """All choices of a cell."""
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


class PrefixLayer:
    """The first stages of all networks, by the last one's width and by cost.

    A prefix is a pair: a cell of the earlier prefixes, of whatever width, and a cell of the stage. Pair number
    `earlier * stage cells + stage cell` is one of a width; the pairs of a cell are kept, for drawing from it.
    """

    def __init__(self, before: Layer, stage: StageLayer, links: Links, limit: int) -> None:
        self._before, self._stage, self._links = before, stage, links
        self._earlier = [(w, cell) for w, cells in before.cells.items() for cell in range(len(cells.flops))]
        self._earlier_number = np.concatenate([cells.number for cells in before.cells.values()])
        costs = {width: self._sums(width) for width in stage.cells}
        step = _step_for(list(costs.values()), limit)
        self.slack: tuple[int, int] = (
            before.slack[0] + stage.slack[0] + step[0] - 1,
            before.slack[1] + stage.slack[1] + step[1] - 1,
        )
        self.cells: dict[int, Cells] = {}
        self._pairs: dict[int, list[IntArray]] = {}
        for width, (flops, params) in costs.items():
            cell_flops, cell_params, cell = _group(flops, params, step)
            number = np.outer(self._earlier_number, stage.cells[width].number).ravel()
            self.cells[width] = Cells(cell_flops, cell_params, np.bincount(cell, number).astype(float))
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
        """The choices of one prefix of a cell, uniformly."""
        pairs, stage = self._pairs[width][cell], self._stage.cells[width]
        earlier, second = np.divmod(pairs, len(stage.flops))
        chosen = int(draw_by_weight(self._earlier_number[earlier] * stage.number[second], rng))
        width_before, first = self._earlier[int(earlier[chosen])]
        return self._before.draw(width_before, first, rng) + self._stage.draw(width, int(second[chosen]), rng)

    def members(self, width: int, cell: int) -> Iterator[tuple[int, ...]]:
        """The choices of all prefixes of a cell."""
        for pair in self._pairs[width][cell].tolist():
            earlier, second = divmod(pair, len(self._stage.cells[width].flops))
            for parts in product(self._before.members(*self._earlier[earlier]), self._stage.members(width, second)):
                yield parts[0] + parts[1]


Layer = StageLayer | PrefixLayer
"""What draws and lists choices by width and cell: one stage, or all stages up to one."""


def draw_by_weight(weight: FloatArray, rng: np.random.Generator, number: int | None = None) -> Any:
    """One position, or an array of `number` positions, with probability proportional to the weight there."""
    total = np.cumsum(weight)
    return np.searchsorted(total, rng.random(number) * total[-1], side="right").clip(max=len(total) - 1)
