"""Additive scores over a chain, and the networks that are best in them at every cost.

A score is a sum of terms of the stages' choices and of neighbours, plus a trend in the total costs: what
`sret_nas.surrogate.model` makes of measured accuracies. Stage by stage, of all beginnings that lead to one state at
about one cost, the one with the least sum is kept (a *label*), with its true costs. So every answer is a network with
its true score; it is the best at its cost up to the width of a bucket (`CostBuckets`), and exactly so where buckets
hold one cost each. `sret_nas.optimize.branch_and_bound` proves optima.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.feasible.cost_cells import starts_of_runs
from sret_nas.space.chain import Chain

Bounds = Sequence[tuple[float, float]]
"""What is allowed of each cost of a chain: (least, most), possibly infinite."""


MAX_BUCKETS_PER_ITEM = 16
"""Buckets over items up to which the best of each bucket is found in a table of all buckets, without sorting."""

MAX_LABELS = 4_000
"""Labels of one state; buckets grow until there are no more, except where every cost is a bucket of its own."""

MAX_CHOICES_LISTED = 32
"""Choices of one state that are not merged by cost before they are combined with what comes before."""


@dataclass(frozen=True, eq=False)
class AdditiveScore:
    """A score to be made small, for points of one chain.

    `stages[s]` of shape (choices,) holds a term per choice of stage s. `pairs[s]`, of shape (states, choices), adds a
    term for a choice of stage s + 1 after each state of stage s (states in sorted order). `trend` maps total costs of
    shape (n, costs) to shape (n,).
    """

    stages: tuple[FloatArray, ...]
    pairs: tuple[FloatArray, ...]
    trend: Callable[[FloatArray], FloatArray]

    def of(self, chain: Chain, points: IntArray) -> FloatArray:
        """The scores of points, of shape (n, stages): an array of shape (n,)."""
        total = self.trend(chain.costs(points).astype(float))
        for number, terms in enumerate(self.stages):
            total = total + terms[points[:, number]]
        for number, pairs in enumerate(self.pairs):
            before = chain.stages[number].state_position[points[:, number]]
            total = total + pairs[before, points[:, number + 1]]
        return total


@dataclass(frozen=True)
class CostBuckets:
    """How finely costs are told apart: `axes` are the costs that matter, each cut into buckets of a width.

    A width is relative, 0.02 for 2 %; with 0 every cost is a bucket of its own.
    """

    axes: tuple[int, ...]
    widths: tuple[float, ...]

    @property
    def can_be_coarser(self) -> bool:
        """Whether buckets have widths that may be multiplied."""
        return min(self.widths) > 0

    def buckets(self, costs: IntArray, offset: float = 0.0, coarser: int = 1) -> IntArray:
        """Which bucket each row of costs, of shape (n, costs), falls into: equal numbers for equal buckets.

        `offset`, from 0 to 1, shifts where buckets begin, as a share of their width; `coarser` multiplies the widths.
        """
        code = np.zeros(len(costs), dtype=np.int64)
        for axis, width in zip(self.axes, self.widths, strict=True):
            cost = costs[:, axis]
            if width > 0:
                cost = np.floor(np.log(np.maximum(cost, 1)) / (coarser * np.log1p(width)) + offset).astype(np.int64)
            else:
                cost = np.unique(cost, return_inverse=True)[1]
            code = code * (int(cost.max(initial=0)) + 1) + cost
        return code


@dataclass(frozen=True)
class _Labels:
    """The best beginnings that lead to one state: their sums and costs, and how each was made."""

    score: FloatArray
    costs: IntArray
    origin: IntArray
    """Position among all labels of the stage before, its states in order."""
    choice: IntArray


class ParetoDP:
    """Finds the networks of a chain that are best in an additive score, at every cost inside bounds."""

    def __init__(self, chain: Chain, bounds: Bounds, resolution: CostBuckets) -> None:
        self._chain = chain
        self._resolution = resolution
        self._low = np.array([low for low, _ in bounds])
        self._high = np.array([high for _, high in bounds])
        self._states = [stage.states for stage in chain.stages]
        self._choices = [
            [np.flatnonzero(stage.state == state) for state in states.tolist()]
            for stage, states in zip(chain.stages, self._states, strict=True)
        ]
        self._is_bounded = bool(np.isfinite(self._high).any() or (self._low > 0).any())

    @cached_property
    def _left(self) -> list[tuple[IntArray, IntArray]]:
        """For each stage, the least and the most that the stages after it can cost, by state: (states, costs)."""
        left = [(np.zeros((len(self._states[-1]), len(self._low)), dtype=np.int64),) * 2]
        for number in range(len(self._states) - 1, 0, -1):
            stage, (least_after, most_after) = self._chain.stages[number], left[0]
            ends = []
            for take, after in ((np.min, least_after), (np.max, most_after)):
                own = np.stack([take(stage.costs[choices], axis=0) for choices in self._choices[number]]) + after
                rows = []
                for before in self._states[number - 1].tolist():
                    sums = [
                        own[position] + self._chain.links[number - 1][before, state]
                        for position, state in enumerate(self._states[number].tolist())
                        if (before, state) in self._chain.links[number - 1]
                    ]
                    rows.append(take(np.stack(sums), axis=0))
                ends.append(np.stack(rows))
            left.insert(0, (ends[0], ends[1]))
        return left

    def find(self, score: AdditiveScore, offset: float = 0.0) -> IntArray:
        """One point for every bucket of total cost inside the bounds that holds a network: (n, stages), any order.

        `offset` shifts the buckets, so that other networks of nearly the same cost get their turn.
        """
        history = [self._first(score, offset)]
        for number in range(1, len(self._states)):
            history.append(self._next(number, history[-1], score, offset))
        return self._traced(history)

    def _cells(self, number: int, position: int, offset: float) -> _Cells | None:
        """The choices of a state by bucket; None for so few that merging them would not pay."""
        choices = self._choices[number][position]
        if len(choices) <= MAX_CHOICES_LISTED:
            return None
        return _Cells(self._resolution.buckets(self._chain.stages[number].costs[choices], offset))

    def _first(self, score: AdditiveScore, offset: float) -> list[_Labels]:
        labels = []
        for position, choices in enumerate(self._choices[0]):
            terms = score.stages[0][choices]
            cells = self._cells(0, position, offset)
            best = np.arange(len(terms)) if cells is None else cells.best(terms)
            costs = self._chain.stages[0].costs[choices[best]]
            kept = self._can_end_inside(0, position, costs)
            best, costs = best[kept], costs[kept]
            labels.append(_Labels(terms[best], costs, np.zeros(len(best), dtype=np.int64), choices[best]))
        return labels

    def _next(self, number: int, before: list[_Labels], score: AdditiveScore, offset: float) -> list[_Labels]:
        starts = np.cumsum([0, *(len(labels.score) for labels in before)])
        return [
            self._reached(number, position, before, starts, score, offset)
            for position in range(len(self._states[number]))
        ]

    def _reached(
        self, number: int, position: int, before: list[_Labels], starts: IntArray, score: AdditiveScore, offset: float
    ) -> _Labels:
        """The labels of one state: of all pairs of a label before and a cell of the stage, the best per bucket."""
        stage, choices = self._chain.stages[number], self._choices[number][position]
        cells = self._cells(number, position, offset)
        state = int(self._states[number][position])
        sums, costs, origins, picked = [], [], [], []
        for place, (state_before, labels) in enumerate(zip(self._states[number - 1].tolist(), before, strict=True)):
            link = self._chain.links[number - 1].get((state_before, state))
            if link is None or len(labels.score) == 0:
                continue
            terms = score.stages[number][choices] + score.pairs[number - 1][place, choices]
            best = np.arange(len(terms)) if cells is None else cells.best(terms)
            total = labels.costs[:, None] + (stage.costs[choices[best]] + np.array(link))
            kept = self._kept(number, position, total, labels.score[:, None] + terms[best], offset)
            label, cell = np.divmod(kept, len(best))
            sums.append(labels.score[label] + terms[best[cell]])
            costs.append(total[label, cell])
            origins.append(starts[place] + label)
            picked.append(choices[best[cell]])
        if not sums:
            nothing = np.zeros(0, dtype=np.int64)
            return _Labels(np.zeros(0), np.zeros((0, len(self._low)), dtype=np.int64), nothing, nothing)
        all_sums, all_costs = np.concatenate(sums), np.concatenate(costs)
        chosen = self._few(all_costs, all_sums, offset)
        return _Labels(
            all_sums[chosen], all_costs[chosen], np.concatenate(origins)[chosen], np.concatenate(picked)[chosen]
        )

    def _few(self, costs: IntArray, sums: FloatArray, offset: float) -> IntArray:
        """The best of each bucket; of more than `MAX_LABELS`, those of coarser ones, so that memory is bounded."""
        chosen = best_of_each(self._resolution.buckets(costs, offset), sums)
        coarser = 1
        while len(chosen) > MAX_LABELS and self._resolution.can_be_coarser:
            coarser *= 2
            chosen = chosen[best_of_each(self._resolution.buckets(costs[chosen], offset, coarser), sums[chosen])]
        return chosen

    def _kept(self, number: int, position: int, costs: IntArray, sums: FloatArray, offset: float) -> IntArray:
        """The best per bucket of all pairs, of shape (labels, cells), that can end inside the bounds: flat positions.

        `costs` is of shape (labels, cells, costs).
        """
        flat = costs.reshape(-1, costs.shape[-1])
        if not self._is_bounded:
            return best_of_each(self._resolution.buckets(flat, offset), sums.ravel())
        inside = np.flatnonzero(self._can_end_inside(number, position, flat))
        return inside[best_of_each(self._resolution.buckets(flat[inside], offset), sums.ravel()[inside])]

    def _can_end_inside(self, number: int, position: int, costs: IntArray) -> npt.NDArray[np.bool_]:
        """Which beginnings that lead to a state have a chance to end inside the bounds, cost by cost."""
        least, most = (ends[position] for ends in self._left[number])
        inside = np.ones(len(costs), dtype=bool)
        for axis, (low, high) in enumerate(zip(self._low, self._high, strict=True)):
            if high < np.inf:
                inside &= costs[:, axis] <= high - least[axis]
            if low > 0:
                inside &= costs[:, axis] >= low - most[axis]
        return inside

    def _traced(self, history: list[list[_Labels]]) -> IntArray:
        """The points of the last stage's labels, followed back."""
        last = history[-1]
        at = np.arange(sum(len(labels.score) for labels in last))
        columns = []
        for labels in reversed(history):
            choice = np.concatenate([part.choice for part in labels])
            origin = np.concatenate([part.origin for part in labels])
            columns.append(choice[at])
            at = origin[at]
        return np.column_stack(columns[::-1])


class _Cells:
    """The choices of one state by bucket of cost."""

    def __init__(self, bucket: IntArray) -> None:
        self._order = np.argsort(bucket, kind="stable")
        self._start = starts_of_runs(bucket[self._order])
        self._length = np.diff(self._start, append=len(bucket))

    def best(self, terms: FloatArray) -> IntArray:
        """The position of the least term in each bucket; of equals the first."""
        ordered = terms[self._order]
        least = np.repeat(np.minimum.reduceat(ordered, self._start), self._length)
        hits = np.flatnonzero(ordered == least)
        first = np.searchsorted(hits, self._start)
        best: IntArray = self._order[hits[first]]
        return best


def best_of_each(bucket: IntArray, score: FloatArray) -> IntArray:
    """The position of the least score in each bucket, of buckets of shape (n,); of equals the first."""
    if len(bucket) == 0:
        return np.zeros(0, dtype=np.int64)
    least = int(bucket.min())
    number = int(bucket.max()) - least + 1
    if number > MAX_BUCKETS_PER_ITEM * len(bucket):
        order = np.lexsort((score, bucket))
        return np.asarray(order[starts_of_runs(bucket[order])])
    place = bucket - least
    best = np.full(number, np.inf)
    np.minimum.at(best, place, score)
    hits = np.flatnonzero(score == best[place])[::-1]
    first = np.full(number, -1)
    first[place[hits]] = hits  # backwards, so that the first of equals is written last
    return first[first >= 0]
