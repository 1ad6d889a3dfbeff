"""Additive scores over a chain, and a dynamic program that finds the best networks at every cost.

A score sums terms of the stages' choices and of neighbouring stages, plus a trend in the total costs. For example,
`sret_nas.surrogate.model` predicts such scores from measured accuracies. The program extends prefixes stage by stage.
Of all prefixes that lead to one state with costs in one bucket (`CostBuckets`), it keeps the one with the least sum,
together with its true costs. Every result is therefore a network with its true score. It is the best at its cost up to
the width of a bucket, and exactly the best if every bucket holds a single cost. For proven optima see
`sret_nas.optimize.branch_and_bound`.
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
"""Least and most of each cost of a chain, possibly infinite."""

MAX_BUCKETS_PER_ITEM = 16
"""Most buckets per item for which the best of each bucket is found in a table of all buckets, without sorting."""

MAX_PREFIXES = 4_000
"""Most prefixes kept per state; buckets are widened until they fit, unless every cost is a bucket of its own."""

MAX_CHOICES_LISTED = 32
"""Most choices of a state that are combined with the prefixes one by one; more are first merged by cost."""


@dataclass(frozen=True, eq=False)
class AdditiveScore:
    """A score of the points of one chain, to be minimised.

    Attributes:
        stages: One term per choice of stage s, of shape (choices,).
        pairs: One term per sorted state of stage s and choice of stage s + 1, of shape (states, choices).
        trend: Maps total costs of shape (n, costs) to terms of shape (n,).
    """

    stages: tuple[FloatArray, ...]
    pairs: tuple[FloatArray, ...]
    trend: Callable[[FloatArray], FloatArray]

    def of(self, chain: Chain, points: IntArray) -> FloatArray:
        """Returns the scores, of shape (n,), of points of shape (n, stages)."""
        total = self.trend(chain.costs(points).astype(float))
        for stage_index, terms in enumerate(self.stages):
            total = total + terms[points[:, stage_index]]
        for stage_index, pairs in enumerate(self.pairs):
            before = chain.stages[stage_index].state_position[points[:, stage_index]]
            total = total + pairs[before, points[:, stage_index + 1]]
        return total


@dataclass(frozen=True)
class CostBuckets:
    """Buckets that costs are compared by.

    Attributes:
        axes: Positions of the costs that matter.
        widths: Relative width of the buckets of each of them: 0.02 is 2 %, 0 makes every cost a bucket of its own.
    """

    axes: tuple[int, ...]
    widths: tuple[float, ...]

    @property
    def can_be_coarser(self) -> bool:
        """Whether the buckets can be widened."""
        return min(self.widths) > 0

    def buckets(self, costs: IntArray, offset: float = 0.0, coarser: int = 1) -> IntArray:
        """Returns the bucket of each row of costs, of shape (n, costs), as an integer.

        `offset`, from 0 to 1, shifts the edges by a share of the width; `coarser` multiplies the widths.
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
class _Prefixes:
    """The best prefixes that lead to one state: their sums of terms, their costs, and how to trace them back."""

    score: FloatArray
    costs: IntArray
    origin: IntArray
    """Position of the shorter prefix among all prefixes to the stage before, state by state."""
    choice: IntArray
    """Choice of the last stage."""


class ParetoDP:
    """Finds the points of a chain with the least additive scores, at every cost inside bounds."""

    def __init__(self, chain: Chain, bounds: Bounds, buckets: CostBuckets) -> None:
        """Prepares searches for any number of scores."""
        self._chain = chain
        self._buckets = buckets
        self._low = np.array([low for low, _ in bounds])
        self._high = np.array([high for _, high in bounds])
        self._states = [stage.states for stage in chain.stages]
        self._choices = [
            [np.flatnonzero(stage.state == state) for state in states.tolist()]
            for stage, states in zip(chain.stages, self._states, strict=True)
        ]
        self._is_bounded = bool(np.isfinite(self._high).any() or (self._low > 0).any())

    @cached_property
    def _remaining(self) -> list[tuple[IntArray, IntArray]]:
        """For each stage and state, the least and the most that the stages after it cost, each (states, costs)."""
        remaining = [(np.zeros((len(self._states[-1]), len(self._low)), dtype=np.int64),) * 2]
        for stage_index in range(len(self._states) - 1, 0, -1):
            stage, (least_after, most_after) = self._chain.stages[stage_index], remaining[0]
            ends = []
            for take, after in ((np.min, least_after), (np.max, most_after)):
                own = np.stack([take(stage.costs[choices], axis=0) for choices in self._choices[stage_index]]) + after
                rows = []
                for before in self._states[stage_index - 1].tolist():
                    sums = [
                        own[position] + self._chain.links[stage_index - 1][before, state]
                        for position, state in enumerate(self._states[stage_index].tolist())
                        if (before, state) in self._chain.links[stage_index - 1]
                    ]
                    rows.append(take(np.stack(sums), axis=0))
                ends.append(np.stack(rows))
            remaining.insert(0, (ends[0], ends[1]))
        return remaining

    def find(self, score: AdditiveScore, offset: float = 0.0) -> IntArray:
        """Finds one point for every bucket of total cost inside the bounds that holds any.

        Args:
            score: The score to minimise.
            offset: Shift of the buckets (see `CostBuckets.buckets`); another offset finds other points.

        Returns:
            Points of shape (n, stages), in no particular order.
        """
        history = [self._first(score, offset)]
        for stage_index in range(1, len(self._states)):
            history.append(self._next(stage_index, history[-1], score, offset))
        return self._trace_back(history)

    def _bucketed(self, stage_index: int, position: int, offset: float) -> _BucketedChoices | None:
        """Merges the choices of a state by bucket; returns None if they are too few to be worth it."""
        choices = self._choices[stage_index][position]
        if len(choices) <= MAX_CHOICES_LISTED:
            return None
        return _BucketedChoices(self._buckets.buckets(self._chain.stages[stage_index].costs[choices], offset))

    def _first(self, score: AdditiveScore, offset: float) -> list[_Prefixes]:
        """Returns the prefixes of one stage, state by state."""
        prefixes = []
        for position, choices in enumerate(self._choices[0]):
            terms = score.stages[0][choices]
            cells = self._bucketed(0, position, offset)
            best = np.arange(len(terms)) if cells is None else cells.best(terms)
            costs = self._chain.stages[0].costs[choices[best]]
            kept = self._can_end_inside(0, position, costs)
            best, costs = best[kept], costs[kept]
            prefixes.append(_Prefixes(terms[best], costs, np.zeros(len(best), dtype=np.int64), choices[best]))
        return prefixes

    def _next(self, stage_index: int, before: list[_Prefixes], score: AdditiveScore, offset: float) -> list[_Prefixes]:
        """Extends the prefixes by a stage; returns the new ones, state by state."""
        starts = np.cumsum([0, *(len(prefixes.score) for prefixes in before)])
        return [
            self._prefixes_to(stage_index, position, before, starts, score, offset)
            for position in range(len(self._states[stage_index]))
        ]

    def _prefixes_to(
        self,
        stage_index: int,
        position: int,
        before: list[_Prefixes],
        starts: IntArray,
        score: AdditiveScore,
        offset: float,
    ) -> _Prefixes:
        """Returns the prefixes to one state: the best per bucket of all pairs of a shorter prefix and a choice."""
        stage, choices = self._chain.stages[stage_index], self._choices[stage_index][position]
        cells = self._bucketed(stage_index, position, offset)
        state = int(self._states[stage_index][position])
        sums, costs, origins, picked = [], [], [], []
        for before_index, (state_before, prefixes) in enumerate(
            zip(self._states[stage_index - 1].tolist(), before, strict=True)
        ):
            link = self._chain.links[stage_index - 1].get((state_before, state))
            if link is None or len(prefixes.score) == 0:
                continue
            terms = score.stages[stage_index][choices] + score.pairs[stage_index - 1][before_index, choices]
            best = np.arange(len(terms)) if cells is None else cells.best(terms)
            total = prefixes.costs[:, None] + (stage.costs[choices[best]] + np.array(link))
            kept = self._best_pairs(stage_index, position, total, prefixes.score[:, None] + terms[best], offset)
            prefix, cell = np.divmod(kept, len(best))
            sums.append(prefixes.score[prefix] + terms[best[cell]])
            costs.append(total[prefix, cell])
            origins.append(starts[before_index] + prefix)
            picked.append(choices[best[cell]])
        if not sums:
            nothing = np.zeros(0, dtype=np.int64)
            return _Prefixes(np.zeros(0), np.zeros((0, len(self._low)), dtype=np.int64), nothing, nothing)
        all_sums, all_costs = np.concatenate(sums), np.concatenate(costs)
        chosen = self._coarsened(all_costs, all_sums, offset)
        return _Prefixes(
            all_sums[chosen], all_costs[chosen], np.concatenate(origins)[chosen], np.concatenate(picked)[chosen]
        )

    def _coarsened(self, costs: IntArray, sums: FloatArray, offset: float) -> IntArray:
        """Returns the best prefix of each bucket; widens buckets beyond `MAX_PREFIXES`, to bound memory."""
        chosen = best_of_each(self._buckets.buckets(costs, offset), sums)
        coarser = 1
        while len(chosen) > MAX_PREFIXES and self._buckets.can_be_coarser:
            coarser *= 2
            chosen = chosen[best_of_each(self._buckets.buckets(costs[chosen], offset, coarser), sums[chosen])]
        return chosen

    def _best_pairs(
        self, stage_index: int, position: int, costs: IntArray, sums: FloatArray, offset: float
    ) -> IntArray:
        """Returns flat positions of the best pairs per bucket among those that can end inside the bounds.

        `costs` has the shape (prefixes, cells, costs), `sums` the shape (prefixes, cells).
        """
        flat = costs.reshape(-1, costs.shape[-1])
        if not self._is_bounded:
            return best_of_each(self._buckets.buckets(flat, offset), sums.ravel())
        inside = np.flatnonzero(self._can_end_inside(stage_index, position, flat))
        return inside[best_of_each(self._buckets.buckets(flat[inside], offset), sums.ravel()[inside])]

    def _can_end_inside(self, stage_index: int, position: int, costs: IntArray) -> npt.NDArray[np.bool_]:
        """Masks the prefixes to a state that can end inside the bounds, each cost considered by itself."""
        least, most = (ends[position] for ends in self._remaining[stage_index])
        inside = np.ones(len(costs), dtype=bool)
        for axis, (low, high) in enumerate(zip(self._low, self._high, strict=True)):
            if high < np.inf:
                inside &= costs[:, axis] <= high - least[axis]
            if low > 0:
                inside &= costs[:, axis] >= low - most[axis]
        return inside

    def _trace_back(self, history: list[list[_Prefixes]]) -> IntArray:
        """Returns the points of the prefixes to the last stage, of shape (n, stages)."""
        last = history[-1]
        row = np.arange(sum(len(prefixes.score) for prefixes in last))
        columns = []
        for prefixes in reversed(history):
            choice = np.concatenate([part.choice for part in prefixes])
            origin = np.concatenate([part.origin for part in prefixes])
            columns.append(choice[row])
            row = origin[row]
        return np.column_stack(columns[::-1])


class _BucketedChoices:
    """The choices of one state, grouped by bucket."""

    def __init__(self, bucket: IntArray) -> None:
        """Groups choices by their buckets, of shape (choices,)."""
        self._order = np.argsort(bucket, kind="stable")
        self._start = starts_of_runs(bucket[self._order])
        self._length = np.diff(self._start, append=len(bucket))

    def best(self, terms: FloatArray) -> IntArray:
        """Returns the position of the least term in each bucket; of equal terms the first."""
        ordered = terms[self._order]
        least = np.repeat(np.minimum.reduceat(ordered, self._start), self._length)
        hits = np.flatnonzero(ordered == least)
        first = np.searchsorted(hits, self._start)
        best: IntArray = self._order[hits[first]]
        return best


def best_of_each(bucket: IntArray, score: FloatArray) -> IntArray:
    """Returns the position of the least score in each bucket; of equal scores the first.

    `bucket` and `score` have the shape (n,); the result has one entry per occurring bucket, in ascending order.
    """
    if len(bucket) == 0:
        return np.zeros(0, dtype=np.int64)
    least = int(bucket.min())
    num_buckets = int(bucket.max()) - least + 1
    if num_buckets > MAX_BUCKETS_PER_ITEM * len(bucket):
        order = np.lexsort((score, bucket))
        return np.asarray(order[starts_of_runs(bucket[order])])
    bucket_index = bucket - least
    best = np.full(num_buckets, np.inf)
    np.minimum.at(best, bucket_index, score)
    hits = np.flatnonzero(score == best[bucket_index])[::-1]
    first = np.full(num_buckets, -1)
    first[bucket_index[hits]] = hits  # in reverse order, so that the first of equal scores is written last
    return first[first >= 0]
