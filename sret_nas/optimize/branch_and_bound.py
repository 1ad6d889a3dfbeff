"""Proven optima of additive scores over all networks of a chain: the best ones, and the whole Pareto front.

A chain is cut in two (`sret_nas.optimize.meet_in_the_middle`), and pairs of boxes of cost, one of either half, are
refined from coarse to fine. The least score that a pair could hold is the least sum in the one, the least sum in the
other and the trend at the better corner of their costs. A pair is left out once that is no better than a network that
is known already and costs no more. So nothing is lost that is better, but for the rounding of sums of floating-point
numbers. The network that is made of both least sums is a real one, and becomes known at once, which makes the next
bounds sharp.
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
from sret_nas.optimize.meet_in_the_middle import FAN_OUT, ChainHalves, HalfChain, StageTerms, children_of
from sret_nas.space.chain import Chain

_BATCH = 2**17
"""Pairs of boxes that are looked at in one go, which bounds memory."""

_GRID = 33
"""Costs at which a trend is checked, along each cost."""

_Trend = Callable[[FloatArray], FloatArray]


class ProvenOptima:
    """Finds proven optima of any number of scores over one chain.

    It owns the boxes of cost that all scores share, up to 1.6 GB of them (`chain_halves.MAX_WAYS`): those that were
    used last stay with it, and go with it.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._halves: ChainHalves | None = None

    def best(self, score: AdditiveScore, bounds: Bounds, k: int) -> IntArray:
        """Returns the k points with the least scores inside the bounds, in order: (k, stages), or fewer if there are
        fewer.

        The trend must be monotone in each cost. Raises `ValueError` if it is not, if a term or the trend is not finite,
        or for k below 1; `UserError` for a chain that is too rich.
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
        """Returns the points inside the bounds that none dominates in the score and the one or two costs named, all to
        be small.

        Of shape (n, stages), sorted by the first cost; of points that are equal in all of them there is one.

        The trend must be monotone in each cost. Raises `ValueError` if it is not, if a term or the trend is not finite,
        or for other objectives; `UserError` for a chain that is too rich and for more than `MAX_FRONT` points.
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
        """The halves with boxes that are small above all in a cost; others are let go first."""
        if self._halves is None or self._halves.sort_axis != sort_axis:
            self._halves = None
            self._halves = ChainHalves(self._chain, sort_axis)
        return self._halves


def _no_points(chain: Chain) -> IntArray:
    return np.zeros((0, len(chain.stages)), dtype=np.int64)


def _narrowest(bounds: Bounds) -> int:
    """The cost with the narrowest window: what it leaves out is seen best if boxes are small in it."""
    return int(np.argmin([high / low if low > 0 else inf for low, high in bounds]))


@dataclass(frozen=True)
class _Pairs:
    """Pairs of nodes, one of each half: `left` and `right` of shape (n,), on one level of either tree."""

    number: int
    levels: tuple[int, int]
    left: IntArray
    right: IntArray


def _directions(trend: _Trend, low: FloatArray, high: FloatArray, names: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Whether the trend is least at the low end of each cost, of shape (costs, 1). Raises `ValueError` where it rises
    and falls, as far as a grid over the costs shows it."""
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
    """One half with the least sums of a score in its boxes."""

    def __init__(self, half: HalfChain, terms: StageTerms, sort_axis: int) -> None:
        self.half, self.tree = half, half.tree
        self.least, self.place = half.minima(terms)
        self.top = len(self.least) - 1
        self.sizes: list[float] = self.tree.sizes[:, sort_axis].tolist()


class _Search:
    """Branch and bound over pairs of boxes. `low` and `high`, of shape (costs, 1), are the bounds that matter."""

    def __init__(self, halves: ChainHalves, score: AdditiveScore, low: FloatArray, high: FloatArray) -> None:
        self.low, self.high = low, high
        self._chain = halves.chain
        self._terms = StageTerms(halves, score)
        self._trend = score.trend
        self._rises = _directions(score.trend, low[:, 0], high[:, 0], halves.chain.cost_names)
        sort_axis = halves.sort_axis
        self._sides = [
            (_Side(left, self._terms, sort_axis), _Side(right, self._terms, sort_axis)) for left, right in halves.pairs
        ]
        self._waiting: list[_Pairs] = []

    @classmethod
    def over(cls, halves: ChainHalves, score: AdditiveScore, bounds: Bounds) -> _Search | None:
        """A search, or None where costs show at once that no network lies inside the bounds."""
        if not halves.pairs:
            return None
        ends = [(left.least_costs + right.least_costs, left.most_costs + right.most_costs)
                for left, right in halves.pairs]  # fmt: skip
        low = np.maximum(np.min([least for least, _ in ends], axis=0), [low for low, _ in bounds])[:, None]
        high = np.minimum(np.max([most for _, most in ends], axis=0), [high for _, high in bounds])[:, None]
        return cls(halves, score, low, high) if (low <= high).all() else None

    def run(self, known: Incumbents) -> None:
        """Looks at everything that may be better than what is known."""
        for number, sides in enumerate(self._sides):
            left, right = np.indices([len(side.least[-1]) for side in sides]).reshape(2, -1)
            self._look(_Pairs(number, (sides[0].top, sides[1].top), left, right), known)
        while self._waiting:
            self._look(self._refined(self._waiting.pop()), known)

    def _refined(self, pairs: _Pairs) -> _Pairs:
        """The pairs of children, on the side whose boxes are larger, and nodes of the other side."""
        sides, levels = self._sides[pairs.number], pairs.levels
        if levels[1] == 0 or (levels[0] > 0 and sides[0].sizes[levels[0]] >= sides[1].sizes[levels[1]]):
            left, right = children_of(pairs.left), np.repeat(pairs.right, FAN_OUT)
            return _Pairs(pairs.number, (levels[0] - 1, levels[1]), left, right)
        left, right = np.repeat(pairs.left, FAN_OUT), children_of(pairs.right)
        return _Pairs(pairs.number, (levels[0], levels[1] - 1), left, right)

    def _look(self, pairs: _Pairs, known: Incumbents) -> None:
        """Makes the best pairs' networks known, and puts the pairs that may hold better ones on the waiting list."""
        first, second = self._sides[pairs.number]
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
        self._make_known(pairs.number, first.place[i][left], second.place[j][right], known)
        if pairs.levels == (0, 0) or len(kept) == 0:
            return
        # The most promising come last, which is where the waiting list is taken from.
        order = np.lexsort((bound, bound - limit))[::-1]
        for part in np.array_split(order, -(-len(order) * FAN_OUT // _BATCH)):
            self._waiting.append(_Pairs(pairs.number, pairs.levels, left[part], right[part]))

    def _make_known(self, number: int, left: IntArray, right: IntArray, known: Incumbents) -> None:
        first, second = self._sides[number]
        costs = first.tree.low[0][:, left] + second.tree.low[0][:, right]
        inside = np.flatnonzero(((costs >= self.low) & (costs <= self.high)).all(axis=0))
        left, right, costs = left[inside], right[inside], costs[:, inside]
        scores = first.least[0][left] + second.least[0][right] + self._trend(costs.T)
        better = np.flatnonzero(scores < known.limit(costs))
        if len(better):
            ids = np.stack([np.full(len(better), number), left[better], right[better]])
            known.add(ids, costs[:, better], scores[better])

    def point(self, number: int, left: int, right: int) -> list[int]:
        """The best network of a way through the left half and one through the right."""
        return [
            int(self._terms.best(stage, before, state)[0][cell])
            for stage, before, state, cell in self._cells(number, left, right)
        ]

    def _cells(self, number: int, left: int, right: int) -> list[tuple[int, int | None, int, int]]:
        first, second = self._sides[number]
        return first.half.cells_of(left) + second.half.cells_of(right)

    def least_members(self, ids: IntArray, k: int) -> IntArray:
        """The k best points of the ways named, which stand in the order of their best ones: (k, stages), or fewer."""
        points, scores = [], np.zeros(0)
        for number, left, right in ids.T.tolist():
            first, second = self._sides[number]
            costs = first.tree.low[0][:, left] + second.tree.low[0][:, right]
            members, sums = self._members(number, left, right, k)
            own = sums + self._trend(costs[None])
            if len(scores) >= k and own[0] >= np.partition(scores, k - 1)[k - 1]:
                break
            points.append(members)
            scores = np.append(scores, own)
        return np.concatenate(points)[np.argsort(scores, kind="stable")[:k]] if points else _no_points(self._chain)

    def _members(self, number: int, left: int, right: int, k: int) -> tuple[IntArray, FloatArray]:
        """The k points with the least sums of terms among those of a pair of ways, and their sums, in order."""
        points, sums = np.zeros((1, 0), dtype=np.int64), np.zeros(1)
        for stage, before, state, cell in self._cells(number, left, right):
            choices, terms = self._terms.of_cell(stage, before, state, cell)
            total = (sums[:, None] + terms).ravel()
            least = np.argsort(total, kind="stable")[:k]
            row, column = np.divmod(least, len(choices))
            points, sums = np.column_stack([points[row], choices[column]]), total[least]
        return points, sums
