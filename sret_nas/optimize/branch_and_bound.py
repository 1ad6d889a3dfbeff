"""Branch and bound for proven optima of additive scores: the k best networks of a chain, or its whole Pareto front.

The chain is cut into halves (`sret_nas.optimize.meet_in_the_middle`), and pairs of cost boxes, one of each half, are
refined from coarse to fine. The lower bound on the scores of a pair is the sum of the least sums of terms in both boxes
and of the trend at the better corner of their costs. A pair is pruned if this bound is no better than the score of a
known network that costs no more. No better network is lost this way, except through the rounding of floating-point
sums. The two paths with the least sums form a real network; it becomes known at once, which sharpens the next bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.optimize.dynamic_program import AdditiveScore, Bounds
from sret_nas.optimize.incumbents import BestIncumbents, FrontIncumbents, Incumbents, distinct_front
from sret_nas.optimize.meet_in_the_middle import FAN_OUT, ChainHalves, HalfChain, ScoreTerms, children_of
from sret_nas.space.chain import Chain

_BATCH = 2**17
"""Most pairs of boxes per step, to bound memory."""

_GRID = 33
"""Points per cost of the grid on which a trend is checked."""

_Trend = Callable[[FloatArray], FloatArray]


class ProvenOptima:
    """Finds proven optima of any number of scores over one chain.

    It owns the cost boxes that all scores share, up to 1.6 GB (`meet_in_the_middle.MAX_PATHS`). The boxes used last are
    kept and are freed together with it.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._halves: ChainHalves | None = None

    def best(self, score: AdditiveScore, bounds: Bounds, k: int) -> IntArray:
        """Returns the k points with the least scores inside the bounds, or all if there are fewer, in order of score.

        The result has the shape (k, stages). The trend must be monotone in each cost.

        Raises:
            ValueError: The trend is not monotone, a term or the trend is not finite, or k is below 1.
            UserError: The chain is too rich.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        search = _Search.over(self._halves_for(_narrowest(bounds)), score, bounds)
        if search is None:
            return _no_points(self._chain)
        known = BestIncumbents(k)
        search.run(known)
        points = search.least_members(known.ids, k)
        return points[np.argsort(score.of(self._chain, points), kind="stable")[:k]]

    def front(self, score: AdditiveScore, bounds: Bounds, objectives: Sequence[str]) -> IntArray:
        """Returns the Pareto front of the points inside the bounds: the score and the named costs are minimised.

        The result has the shape (n, stages) and is sorted by the first cost. Of points that are equal in score and
        named costs, it holds one. The trend must be monotone in each cost.

        Args:
            score: The score to minimise.
            bounds: Least and most of each cost of the chain.
            objectives: Names of one or two costs.

        Raises:
            ValueError: The trend is not monotone, a term or the trend is not finite, or the objectives are wrong.
            UserError: The chain is too rich, or the front has more than `MAX_FRONT` points.
        """
        chain = self._chain
        unknown = [name for name in objectives if name not in chain.cost_names]
        if unknown or len(set(objectives)) != len(objectives) or not 1 <= len(objectives) <= 2:
            raise ValueError(f"objectives must be one or two of {chain.cost_names}, got {tuple(objectives)}")
        axes = [chain.cost_names.index(name) for name in objectives]
        sort_axis = axes[0] if len(axes) == 1 else _narrowest(bounds)
        search = _Search.over(self._halves_for(sort_axis), score, bounds)
        if search is None:
            return _no_points(chain)
        known = FrontIncumbents(axes, search.low, search.high)
        search.run(known)
        points = np.array([search.point(*ids) for ids in known.ids.T.tolist()], dtype=np.int64)
        points = points.reshape(-1, len(chain.stages))
        rows = np.column_stack([chain.costs(points)[:, axes], score.of(chain, points)])
        return points[distinct_front(rows)]

    def _halves_for(self, sort_axis: int) -> ChainHalves:
        """Returns the halves with boxes that are smallest in a cost; frees others first, to save memory."""
        if self._halves is None or self._halves.sort_axis != sort_axis:
            self._halves = None
            self._halves = ChainHalves(self._chain, sort_axis)
        return self._halves


def _no_points(chain: Chain) -> IntArray:
    """Returns an empty array of points."""
    return np.zeros((0, len(chain.stages)), dtype=np.int64)


def _narrowest(bounds: Bounds) -> int:
    """Returns the cost with the narrowest window, because boxes that are small in it prune the most."""
    return int(np.argmin([high / low if low > 0 else inf for low, high in bounds]))


@dataclass(frozen=True)
class _Pairs:
    """Pairs of nodes, one of each half.

    Attributes:
        state_index: Position in `ChainHalves.pairs`, i.e. of the state at the cut.
        levels: Level in either tree.
        left: Nodes of the left half, of shape (n,).
        right: Nodes of the right half, of shape (n,).
    """

    state_index: int
    levels: tuple[int, int]
    left: IntArray
    right: IntArray


def _directions(trend: _Trend, low: FloatArray, high: FloatArray, names: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Returns whether the trend rises with each cost, of shape (costs, 1).

    Raises `ValueError` if it is not finite, or both rises and falls in a cost, on a grid over the costs.
    """
    axes = [np.linspace(*ends, _GRID) for ends in zip(low, high, strict=True)]
    costs = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    values = trend(costs.reshape(-1, len(names))).reshape(costs.shape[:-1])
    if not np.isfinite(values).all():
        raise ValueError("a trend must be finite at all costs inside the bounds")
    rounding = 8 * np.finfo(float).eps * np.abs(values).max()
    rises = []
    for axis, name in enumerate(names):
        steps = np.diff(values, axis=axis)
        if steps.min() < -rounding and steps.max() > rounding:
            raise ValueError(f"a trend must be monotone in each cost, this one both rises and falls in {name}")
        rises.append([bool(steps.sum() > 0)])
    return np.array(rises)


class _Side:
    """One half with the least sum of a score's terms in each box."""

    def __init__(self, half: HalfChain, terms: ScoreTerms, sort_axis: int) -> None:
        """Finds the least sums."""
        self.half, self.tree = half, half.tree
        self.least, self.position = half.minima(terms)
        self.top = len(self.least) - 1
        self.sizes: list[float] = self.tree.sizes[:, sort_axis].tolist()


class _Search:
    """A search over pairs of boxes; `low` and `high`, of shape (costs, 1), are the effective bounds on costs."""

    def __init__(self, halves: ChainHalves, score: AdditiveScore, low: FloatArray, high: FloatArray) -> None:
        """Prepares the bounds for a score. Raises `ValueError` if it is not finite or not monotone in a cost."""
        self.low, self.high = low, high
        self._chain = halves.chain
        self._terms = ScoreTerms(halves, score)
        self._trend = score.trend
        self._rises = _directions(score.trend, low[:, 0], high[:, 0], halves.chain.cost_names)
        sort_axis = halves.sort_axis
        self._sides = [
            (_Side(left, self._terms, sort_axis), _Side(right, self._terms, sort_axis)) for left, right in halves.pairs
        ]
        self._stack: list[_Pairs] = []

    @classmethod
    def over(cls, halves: ChainHalves, score: AdditiveScore, bounds: Bounds) -> _Search | None:
        """Prepares a search; returns None if the ranges of the costs exclude every network."""
        if not halves.pairs:
            return None
        ends = [(left.least_costs + right.least_costs, left.most_costs + right.most_costs)
                for left, right in halves.pairs]  # fmt: skip
        low = np.maximum(np.min([least for least, _ in ends], axis=0), [low for low, _ in bounds])[:, None]
        high = np.minimum(np.max([most for _, most in ends], axis=0), [high for _, high in bounds])[:, None]
        return cls(halves, score, low, high) if (low <= high).all() else None

    def run(self, known: Incumbents) -> None:
        """Examines every pair that may hold a better network than those known."""
        for state_index, sides in enumerate(self._sides):
            left, right = np.indices([len(side.least[-1]) for side in sides]).reshape(2, -1)
            self._examine(_Pairs(state_index, (sides[0].top, sides[1].top), left, right), known)
        while self._stack:
            self._examine(self._refined(self._stack.pop()), known)

    def _refined(self, pairs: _Pairs) -> _Pairs:
        """Replaces the nodes of the side with the larger boxes by their children."""
        sides, levels = self._sides[pairs.state_index], pairs.levels
        if levels[1] == 0 or (levels[0] > 0 and sides[0].sizes[levels[0]] >= sides[1].sizes[levels[1]]):
            left, right = children_of(pairs.left), np.repeat(pairs.right, FAN_OUT)
            return _Pairs(pairs.state_index, (levels[0] - 1, levels[1]), left, right)
        left, right = np.repeat(pairs.left, FAN_OUT), children_of(pairs.right)
        return _Pairs(pairs.state_index, (levels[0], levels[1] - 1), left, right)

    def _examine(self, pairs: _Pairs, known: Incumbents) -> None:
        """Adds the best network of each pair to the known ones; stacks the pairs that may hold better ones."""
        first, second = self._sides[pairs.state_index]
        i, j = pairs.levels
        low = first.tree.low[i][:, pairs.left] + second.tree.low[j][:, pairs.right]
        high = first.tree.high[i][:, pairs.left] + second.tree.high[j][:, pairs.right]
        kept = np.flatnonzero(((low <= self.high) & (high >= self.low)).all(axis=0))
        left, right = pairs.left[kept], pairs.right[kept]
        low, high = np.maximum(low[:, kept], self.low), np.minimum(high[:, kept], self.high)
        bound = first.least[i][left] + second.least[j][right] + self._trend(np.where(self._rises, low, high).T)
        limit = known.limit(low)
        kept = np.flatnonzero(bound < limit)
        left, right, bound, limit = left[kept], right[kept], bound[kept], limit[kept]
        self._add_known(pairs.state_index, first.position[i][left], second.position[j][right], known)
        if pairs.levels == (0, 0) or len(kept) == 0:
            return
        # The most promising pairs come last, because the stack is popped from its end.
        order = np.lexsort((bound, bound - limit))[::-1]
        for part in np.array_split(order, -(-len(order) * FAN_OUT // _BATCH)):
            self._stack.append(_Pairs(pairs.state_index, pairs.levels, left[part], right[part]))

    def _add_known(self, state_index: int, left: IntArray, right: IntArray, known: Incumbents) -> None:
        """Adds the networks of pairs of paths to the known ones, where they are inside the bounds and better."""
        first, second = self._sides[state_index]
        costs = first.tree.low[0][:, left] + second.tree.low[0][:, right]
        inside = np.flatnonzero(((costs >= self.low) & (costs <= self.high)).all(axis=0))
        left, right, costs = left[inside], right[inside], costs[:, inside]
        scores = first.least[0][left] + second.least[0][right] + self._trend(costs.T)
        better = np.flatnonzero(scores < known.limit(costs))
        if len(better):
            ids = np.stack([np.full(len(better), state_index), left[better], right[better]])
            known.add(ids, costs[:, better], scores[better])

    def point(self, state_index: int, left: int, right: int) -> list[int]:
        """Returns the best point of a pair of paths, one through each half."""
        return [
            int(self._terms.best(stage, before, state)[0][cell])
            for stage, before, state, cell in self._cells(state_index, left, right)
        ]

    def _cells(self, state_index: int, left: int, right: int) -> list[tuple[int, int | None, int, int]]:
        """Returns stage, state before, state and cell of each stage on a pair of paths."""
        first, second = self._sides[state_index]
        return first.half.cells_of(left) + second.half.cells_of(right)

    def least_members(self, ids: IntArray, k: int) -> IntArray:
        """Returns the k best points of some pairs of paths, of shape (k, stages), or all if there are fewer.

        `ids` must be in the order of the best score of each pair of paths.
        """
        points, scores = [], np.zeros(0)
        for state_index, left, right in ids.T.tolist():
            first, second = self._sides[state_index]
            costs = first.tree.low[0][:, left] + second.tree.low[0][:, right]
            members, sums = self._members(state_index, left, right, k)
            own = sums + self._trend(costs[None])
            if len(scores) >= k and own[0] >= np.partition(scores, k - 1)[k - 1]:
                break
            points.append(members)
            scores = np.append(scores, own)
        return np.concatenate(points)[np.argsort(scores, kind="stable")[:k]] if points else _no_points(self._chain)

    def _members(self, state_index: int, left: int, right: int, k: int) -> tuple[IntArray, FloatArray]:
        """Returns the k points with the least sums of terms on a pair of paths, and their sums, in order."""
        points, sums = np.zeros((1, 0), dtype=np.int64), np.zeros(1)
        for stage, before, state, cell in self._cells(state_index, left, right):
            choices, terms = self._terms.of_cell(stage, before, state, cell)
            total = (sums[:, None] + terms).ravel()
            least = np.argsort(total, kind="stable")[:k]
            row, column = np.divmod(least, len(choices))
            points, sums = np.column_stack([points[row], choices[column]]), total[least]
        return points, sums
