"""A chain cut in two, for proofs over all its networks: the ways through either half, in trees of boxes of cost.

Whatever is additive over a chain is a sum of a *way* through the stages before the cut and one through those after it,
once the state at the cut is given. Choices of equal costs are merged into cells first, so that a shipped space has a
few million ways. The ways of a half stand in a tree of boxes of cost. The boxes are made once per chain; a score only
adds the least sum inside each, so that bounds on the sums of a box here and a box there cost one addition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.errors import UserError
from sret_nas.optimize.dynamic_program import AdditiveScore, best_of_each
from sret_nas.space.chain import Chain, ChainStage

MAX_WAYS = 40_000_000
"""Ways through both halves beyond which a chain is refused; about 40 bytes each."""

Number = TypeVar("Number", bound=np.generic)

FAN_OUT = 16
"""Children of a node of a tree."""

_SLABS = 16
"""Slabs that a tree cuts each cost into before it sorts by the cost that is to be fine."""


class BoundingBoxTree:
    """Boxes around rows of costs, of shape (costs, n), and around boxes: children of node i are 16 i to 16 i + 15.

    `low[level]` and `high[level]`, of shape (costs, nodes), are the corners. Level 0 are the rows themselves (`row`
    says which), sorted so that boxes are small above all in the cost `sort_axis`. Levels are filled up with the last
    node.
    """

    def __init__(self, costs: FloatArray, sort_axis: int) -> None:
        least, span = costs.min(axis=1), np.ptp(costs, axis=1) + 1
        slab = np.zeros(costs.shape[1])
        for axis in range(len(costs)):
            if axis != sort_axis:
                slab = slab * _SLABS + np.floor((costs[axis] - least[axis]) * (_SLABS / span[axis]))
        order = np.argsort(slab * span[sort_axis] + (costs[sort_axis] - least[sort_axis]))
        self._num_rows = len(order)
        self.row: IntArray = _filled(order)
        self.low = [costs[:, self.row]]
        self.high = [self.low[0]]
        while self.low[-1].shape[1] > FAN_OUT:
            self.low.append(_filled(_families(self.low[-1]).min(axis=2)))
            self.high.append(_filled(_families(self.high[-1]).max(axis=2)))

    @cached_property
    def sizes(self) -> FloatArray:
        """The mean extents of the boxes of each level, of shape (levels, costs)."""
        return np.stack([(high - low).mean(axis=1) for low, high in zip(self.low, self.high, strict=True)])

    def minima(self, sums: FloatArray) -> tuple[list[FloatArray], list[IntArray]]:
        """The least of the rows' sums in each node, by level, and where in level 0 it stands; inf in what is filler."""
        ordered = sums[self.row]
        ordered[self._num_rows :] = np.inf
        least, place = [ordered], [np.arange(len(ordered))]
        for nodes in self.low[1:]:
            child = _families(least[-1]).argmin(axis=1) + np.arange(0, len(least[-1]), FAN_OUT)
            filler = nodes.shape[1] - len(child)
            place.append(np.append(place[-1][child], np.zeros(filler, dtype=np.int64)))
            least.append(np.append(least[-1][child], np.full(filler, np.inf)))
        return least, place


def children_of(nodes: IntArray) -> IntArray:
    """The children of nodes of a `BoundingBoxTree`, those of one after those of the other."""
    children: IntArray = (nodes[:, None] * FAN_OUT + np.arange(FAN_OUT)).ravel()
    return children


def _families(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Values of shape (..., nodes) by parent: (..., parents, children)."""
    return values.reshape(*values.shape[:-1], -1, FAN_OUT)


def _filled(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Values of shape (..., nodes), the last one repeated until whole families are there."""
    number = values.shape[-1]
    return values[..., np.minimum(np.arange(-(-number // FAN_OUT) * FAN_OUT), number - 1)]


class CostBoxes:
    """The choices of one stage and state by cost: `costs`, of shape (costs, cells), are distinct."""

    def __init__(self, stage: ChainStage, state: int) -> None:
        self.choices = np.flatnonzero(stage.state == state)
        distinct, cell = np.unique(stage.costs[self.choices], axis=0, return_inverse=True)
        self.cell = cell.ravel()
        self.costs = np.ascontiguousarray(distinct.T, dtype=np.float64)

    def best(self, terms: FloatArray) -> IntArray:
        """The choice with the least of the terms of all choices of the stage, for each cell."""
        best: IntArray = self.choices[best_of_each(self.cell, terms[self.choices])]
        return best


@dataclass(frozen=True)
class _Path:
    """Neighbouring stages, each in one state. `before` is the state that leads to the first one; None at stage 0."""

    first: int
    states: tuple[int, ...]
    before: int | None

    def steps(self) -> Iterator[tuple[int, int | None, int]]:
        """Stage, state before and state of each stage on the path."""
        before = (self.before, *self.states)
        yield from ((self.first + step, before[step], state) for step, state in enumerate(self.states))


class StageTerms:
    """The terms of an additive score, stage by stage, once the state before is known."""

    def __init__(self, halves: ChainHalves, score: AdditiveScore) -> None:
        if not all(np.isfinite(terms).all() for terms in (*score.stages, *score.pairs)):
            raise ValueError("all terms of a score must be finite")
        self._halves, self._score = halves, score
        self._best: dict[tuple[int, int | None, int], tuple[IntArray, FloatArray]] = {}

    def of(self, number: int, before: int | None) -> FloatArray:
        """The terms of all choices of a stage after a state, of shape (choices,)."""
        terms: FloatArray = self._score.stages[number]
        if before is not None:
            terms = terms + self._score.pairs[number - 1][self._halves.states[number - 1].index(before)]
        return terms

    def best(self, number: int, before: int | None, state: int) -> tuple[IntArray, FloatArray]:
        """The best choice of each cell of a stage and state, and its term; of shape (cells,)."""
        step = number, before, state
        if step not in self._best:
            terms = self.of(number, before)
            choices = self._halves.cells[number][state].best(terms)
            self._best[step] = choices, terms[choices]
        return self._best[step]

    def of_cell(self, number: int, before: int | None, state: int, cell: int) -> tuple[IntArray, FloatArray]:
        """The choices of a cell of a stage and state, and their terms; of shape (choices of the cell,)."""
        cells = self._halves.cells[number][state]
        choices = cells.choices[cells.cell == cell]
        return choices, self.of(number, before)[choices]


class HalfChain:
    """All ways through the stages of one half that go with one state at the cut."""

    def __init__(self, halves: ChainHalves, paths: list[_Path], sort_axis: int) -> None:
        self._halves, self._paths = halves, paths
        self._shapes = [tuple(halves.cells[stage][state].costs.shape[1] for stage, _, state in path.steps())
                        for path in paths]  # fmt: skip
        self._start = np.cumsum([0, *(prod(shape) for shape in self._shapes)])
        self.tree = BoundingBoxTree(np.concatenate([self._costs(path) for path in paths], axis=1), sort_axis)

    def _costs(self, path: _Path) -> FloatArray:
        total = np.zeros((len(self._halves.chain.cost_names), 1))
        for stage, before, state in path.steps():
            own = self._halves.cells[stage][state].costs
            if before is not None:
                own = own + np.array(self._halves.chain.links[stage - 1][before, state], dtype=np.float64)[:, None]
            total = (total[:, :, None] + own[:, None, :]).reshape(len(total), -1)
        return total

    @property
    def num_ways(self) -> int:
        """How many ways there are."""
        return int(self._start[-1])

    @property
    def least_costs(self) -> FloatArray:
        """The least of each cost over all ways."""
        least: FloatArray = self.tree.low[-1].min(axis=1)
        return least

    @property
    def most_costs(self) -> FloatArray:
        """The most of each cost over all ways."""
        most: FloatArray = self.tree.high[-1].max(axis=1)
        return most

    def minima(self, terms: StageTerms) -> tuple[list[FloatArray], list[IntArray]]:
        """What `BoundingBoxTree.minima` makes of the sums of a score's terms on each way."""
        sums = []
        for path in self._paths:
            total = np.zeros(1)
            for step in path.steps():
                total = (total[:, None] + terms.best(*step)[1]).ravel()
            sums.append(total)
        return self.tree.minima(np.concatenate(sums))

    def cells_of(self, place: int) -> list[tuple[int, int | None, int, int]]:
        """Stage, state before, state and cell of each stage on the way at a place in the tree's level 0."""
        row = int(self.tree.row[place])
        number = int(np.searchsorted(self._start, row, side="right")) - 1
        shape = self._shapes[number]
        cells = np.unravel_index(row - int(self._start[number]), shape) if shape else ()
        return [(*step, int(cell)) for step, cell in zip(self._paths[number].steps(), cells, strict=True)]


class ChainHalves:
    """A chain cut where the ways through both halves are fewest: `pairs` holds both halves, by the state at the cut.

    Boxes are small above all in the cost number `sort_axis`. Raises `UserError` for more than `MAX_WAYS` ways.
    """

    def __init__(self, chain: Chain, sort_axis: int) -> None:
        self.chain, self.sort_axis = chain, sort_axis
        self.states: list[list[int]] = [stage.states.tolist() for stage in chain.stages]
        self.cells = [
            {state: CostBoxes(stage, state) for state in states}
            for stage, states in zip(chain.stages, self.states, strict=True)
        ]
        num_ways, cut = min((number, cut) for cut, number in enumerate(self._num_ways(), start=1))
        if num_ways > MAX_WAYS:
            raise UserError(
                f"a proof of optimality needs at most {MAX_WAYS:,} sums of costs of either half of the stages, this "
                f"space has {num_ways:,}; list fewer values"
            )
        self.pairs = [
            (HalfChain(self, left, sort_axis), HalfChain(self, right, sort_axis))
            for left, right in (self._paths(cut, state) for state in self.states[cut - 1])
            if left and right
        ]

    def _num_ways(self) -> list[int]:
        """How many ways there are through both halves together, for a cut after the first stage, the second, ..."""
        number = [{state: cells.costs.shape[1] for state, cells in stage.items()} for stage in self.cells]
        until, after = [number[0]], [dict.fromkeys(number[-1], 1)]
        for stage, links in enumerate(self.chain.links, start=1):
            until.append({
                state: own * sum(until[-1][before] for before, at in links if at == state)
                for state, own in number[stage].items()
            })  # fmt: skip
        for stage, links in reversed(list(enumerate(self.chain.links))):
            after.insert(0, {
                state: sum(number[stage + 1][at] * after[0][at] for before, at in links if before == state)
                for state in number[stage]
            })  # fmt: skip
        return [sum(left.values()) + sum(right.values()) for left, right in zip(until, after, strict=True)]

    def _paths(self, cut: int, state: int) -> tuple[list[_Path], list[_Path]]:
        """The paths through the first `cut` stages that end in a state, and those through the others that follow it."""
        left = [_Path(0, (*states, state), None) for states in product(*self.states[: cut - 1])]
        right = [_Path(cut, states, state) for states in product(*self.states[cut:])]
        return [path for path in left if self._is_linked(path)], [path for path in right if self._is_linked(path)]

    def _is_linked(self, path: _Path) -> bool:
        return all(
            before is None or (before, state) in self.chain.links[stage - 1] for stage, before, state in path.steps()
        )
