"""A chain cut into two halves, each a tree of bounding boxes over the costs of all paths through it.

Given the state at the cut, any additive quantity of a point is the sum over a *path* through the stages before the cut
and a path through the stages after it. Choices with equal costs are first merged into cells, so that a shipped space
has a few million paths. The boxes are built once per chain. A score only adds the least sum of terms inside each box;
the bound for a pair of boxes is then a single addition.
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

MAX_PATHS = 40_000_000
"""Most paths through both halves together, of about 40 bytes each; a chain with more is refused."""

Number = TypeVar("Number", bound=np.generic)

FAN_OUT = 16
"""Children per node of a tree."""

_SLABS = 16
"""Slabs that a tree cuts every other cost into before it sorts by `sort_axis`."""


class BoundingBoxTree:
    """A packed tree of bounding boxes around rows of costs.

    The children of node i are nodes `FAN_OUT * i` to `FAN_OUT * (i + 1) - 1` of the level below. Each level is padded
    with copies of its last node to a multiple of `FAN_OUT`.

    Attributes:
        row: The row at each position of level 0, where every box is one row.
        low: Lower corners of the boxes, one array of shape (costs, nodes) per level.
        high: Upper corners, likewise.
    """

    def __init__(self, costs: FloatArray, sort_axis: int) -> None:
        """Builds the tree of costs of shape (costs, rows), with boxes that are smallest in the cost `sort_axis`."""
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
        """Mean side lengths of the boxes of each level, of shape (levels, costs)."""
        return np.stack([(high - low).mean(axis=1) for low, high in zip(self.low, self.high, strict=True)])

    def minima(self, sums: FloatArray) -> tuple[list[FloatArray], list[IntArray]]:
        """Finds the least of some sums, of shape (rows,), in each node.

        Returns:
            For each level, the least sums, of shape (nodes,), and their positions in level 0. Padding has the sum inf.
        """
        ordered = sums[self.row]
        ordered[self._num_rows :] = np.inf
        least, position = [ordered], [np.arange(len(ordered))]
        for nodes in self.low[1:]:
            child = _families(least[-1]).argmin(axis=1) + np.arange(0, len(least[-1]), FAN_OUT)
            filler = nodes.shape[1] - len(child)
            position.append(np.append(position[-1][child], np.zeros(filler, dtype=np.int64)))
            least.append(np.append(least[-1][child], np.full(filler, np.inf)))
        return least, position


def children_of(nodes: IntArray) -> IntArray:
    """Returns the children of some nodes of a `BoundingBoxTree`, node by node."""
    children: IntArray = (nodes[:, None] * FAN_OUT + np.arange(FAN_OUT)).ravel()
    return children


def _families(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Groups values of shape (..., nodes) by parent, to shape (..., parents, children)."""
    return values.reshape(*values.shape[:-1], -1, FAN_OUT)


def _filled(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Pads values of shape (..., nodes) with the last one to a multiple of `FAN_OUT` nodes."""
    num_nodes = values.shape[-1]
    return values[..., np.minimum(np.arange(-(-num_nodes // FAN_OUT) * FAN_OUT), num_nodes - 1)]


class DistinctCosts:
    """The choices of one stage and state, merged into cells of equal costs.

    Attributes:
        choices: The choices, ascending.
        cell: Cell of each of them.
        costs: Distinct costs, of shape (costs, cells).
    """

    def __init__(self, stage: ChainStage, state: int) -> None:
        """Merges the choices of a stage that have a state."""
        self.choices = np.flatnonzero(stage.state == state)
        distinct, cell = np.unique(stage.costs[self.choices], axis=0, return_inverse=True)
        self.cell = cell.ravel()
        self.costs = np.ascontiguousarray(distinct.T, dtype=np.float64)

    def best(self, terms: FloatArray) -> IntArray:
        """Returns, for each cell, the choice with the least term; `terms` covers all choices of the stage."""
        best: IntArray = self.choices[best_of_each(self.cell, terms[self.choices])]
        return best


@dataclass(frozen=True)
class _StatePath:
    """One state for each of some consecutive stages.

    Attributes:
        first: Position of the first stage.
        states: State of each stage.
        before: State of the stage before the first one; None if that is stage 0.
    """

    first: int
    states: tuple[int, ...]
    before: int | None

    def steps(self) -> Iterator[tuple[int, int | None, int]]:
        """Yields position, state before and state of each stage on the path."""
        before = (self.before, *self.states)
        yield from ((self.first + step, before[step], state) for step, state in enumerate(self.states))


class ScoreTerms:
    """The terms of an additive score, stage by stage, given the state before."""

    def __init__(self, halves: ChainHalves, score: AdditiveScore) -> None:
        """Takes the terms of a score. Raises `ValueError` if one is not finite."""
        if not all(np.isfinite(terms).all() for terms in (*score.stages, *score.pairs)):
            raise ValueError("all terms of a score must be finite")
        self._halves, self._score = halves, score
        self._best: dict[tuple[int, int | None, int], tuple[IntArray, FloatArray]] = {}

    def of(self, stage_index: int, before: int | None) -> FloatArray:
        """Returns the terms of all choices of a stage after a state, of shape (choices,)."""
        terms: FloatArray = self._score.stages[stage_index]
        if before is not None:
            terms = terms + self._score.pairs[stage_index - 1][self._halves.states[stage_index - 1].index(before)]
        return terms

    def best(self, stage_index: int, before: int | None, state: int) -> tuple[IntArray, FloatArray]:
        """Returns the best choice of each cell of a stage and state, and its term; of shape (cells,)."""
        step = stage_index, before, state
        if step not in self._best:
            terms = self.of(stage_index, before)
            choices = self._halves.cells[stage_index][state].best(terms)
            self._best[step] = choices, terms[choices]
        return self._best[step]

    def of_cell(self, stage_index: int, before: int | None, state: int, cell: int) -> tuple[IntArray, FloatArray]:
        """Returns the choices of one cell and their terms, each of shape (choices of the cell,)."""
        cells = self._halves.cells[stage_index][state]
        choices = cells.choices[cells.cell == cell]
        return choices, self.of(stage_index, before)[choices]


class HalfChain:
    """All paths through one half for one state at the cut."""

    def __init__(self, halves: ChainHalves, paths: list[_StatePath], sort_axis: int) -> None:
        """Enumerates the paths along some sequences of states and builds their tree."""
        self._halves, self._paths = halves, paths
        self._shapes = [tuple(halves.cells[stage][state].costs.shape[1] for stage, _, state in path.steps())
                        for path in paths]  # fmt: skip
        self._start = np.cumsum([0, *(prod(shape) for shape in self._shapes)])
        self.tree = BoundingBoxTree(np.concatenate([self._costs(path) for path in paths], axis=1), sort_axis)

    def _costs(self, path: _StatePath) -> FloatArray:
        """Returns the costs of all paths along a sequence of states, of shape (costs, paths)."""
        total = np.zeros((len(self._halves.chain.cost_names), 1))
        for stage, before, state in path.steps():
            own = self._halves.cells[stage][state].costs
            if before is not None:
                own = own + np.array(self._halves.chain.links[stage - 1][before, state], dtype=np.float64)[:, None]
            total = (total[:, :, None] + own[:, None, :]).reshape(len(total), -1)
        return total

    @property
    def num_paths(self) -> int:
        """Number of paths."""
        return int(self._start[-1])

    @property
    def least_costs(self) -> FloatArray:
        """Least of each cost over all paths, of shape (costs,)."""
        least: FloatArray = self.tree.low[-1].min(axis=1)
        return least

    @property
    def most_costs(self) -> FloatArray:
        """Most of each cost over all paths, of shape (costs,)."""
        most: FloatArray = self.tree.high[-1].max(axis=1)
        return most

    def minima(self, terms: ScoreTerms) -> tuple[list[FloatArray], list[IntArray]]:
        """Returns `BoundingBoxTree.minima` of the least sum of a score's terms on each path."""
        sums = []
        for path in self._paths:
            total = np.zeros(1)
            for step in path.steps():
                total = (total[:, None] + terms.best(*step)[1]).ravel()
            sums.append(total)
        return self.tree.minima(np.concatenate(sums))

    def cells_of(self, position: int) -> list[tuple[int, int | None, int, int]]:
        """Returns stage, state before, state and cell of each stage on the path at a position in level 0."""
        row = int(self.tree.row[position])
        path_index = int(np.searchsorted(self._start, row, side="right")) - 1
        shape = self._shapes[path_index]
        cells = np.unravel_index(row - int(self._start[path_index]), shape) if shape else ()
        return [(*step, int(cell)) for step, cell in zip(self._paths[path_index].steps(), cells, strict=True)]


class ChainHalves:
    """A chain cut where the paths through both halves are fewest.

    Attributes:
        states: Sorted states of each stage.
        cells: Choices of each stage by state, merged by cost.
        pairs: Both halves, one pair for each state at the cut.
    """

    def __init__(self, chain: Chain, sort_axis: int) -> None:
        """Cuts the chain; boxes are smallest in the cost `sort_axis`.

        Raises `UserError` for more than `MAX_PATHS` paths.
        """
        self.chain, self.sort_axis = chain, sort_axis
        self.states: list[list[int]] = [stage.states.tolist() for stage in chain.stages]
        self.cells = [
            {state: DistinctCosts(stage, state) for state in states}
            for stage, states in zip(chain.stages, self.states, strict=True)
        ]
        num_paths, cut = min((number, cut) for cut, number in enumerate(self._num_paths(), start=1))
        if num_paths > MAX_PATHS:
            raise UserError(
                f"a proof of optimality needs at most {MAX_PATHS:,} sums of costs of either half of the stages, this "
                f"space has {num_paths:,}; list fewer values"
            )
        self.pairs = [
            (HalfChain(self, left, sort_axis), HalfChain(self, right, sort_axis))
            for left, right in (self._paths(cut, state) for state in self.states[cut - 1])
            if left and right
        ]

    def _num_paths(self) -> list[int]:
        """Counts the paths through both halves together, for a cut after the first stage, the second, ..."""
        num_cells = [{state: cells.costs.shape[1] for state, cells in stage.items()} for stage in self.cells]
        until, after = [num_cells[0]], [dict.fromkeys(num_cells[-1], 1)]
        for stage, links in enumerate(self.chain.links, start=1):
            until.append({
                state: own * sum(until[-1][before] for before, after_state in links if after_state == state)
                for state, own in num_cells[stage].items()
            })  # fmt: skip
        for stage, links in reversed(list(enumerate(self.chain.links))):
            after.insert(0, {
                state: sum(
                    num_cells[stage + 1][after_state] * after[0][after_state]
                    for before, after_state in links
                    if before == state
                )
                for state in num_cells[stage]
            })  # fmt: skip
        return [sum(left.values()) + sum(right.values()) for left, right in zip(until, after, strict=True)]

    def _paths(self, cut: int, state: int) -> tuple[list[_StatePath], list[_StatePath]]:
        """Returns the state sequences of the first `cut` stages that end in a state, and those of the other stages."""
        left = [_StatePath(0, (*states, state), None) for states in product(*self.states[: cut - 1])]
        right = [_StatePath(cut, states, state) for states in product(*self.states[cut:])]
        return [path for path in left if self._is_linked(path)], [path for path in right if self._is_linked(path)]

    def _is_linked(self, path: _StatePath) -> bool:
        """Returns whether all links along a sequence of states exist."""
        return all(
            before is None or (before, state) in self.chain.links[stage - 1] for stage, before, state in path.steps()
        )
