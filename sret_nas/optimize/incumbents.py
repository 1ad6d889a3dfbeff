"""What a branch and bound over the networks of a chain knows so far, and what is therefore not worth looking at."""

from __future__ import annotations

from math import inf
from typing import Protocol

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.errors import UserError
from sret_nas.pareto import non_dominated

MAX_FRONT = 20_000
"""Networks of a Pareto front beyond which it is refused."""

_LEVELS = {1: 2**16, 2: 2**9}
"""Steps of each cost between which limits do not tell networks apart, for a front of one cost and of two."""


class Incumbents(Protocol):
    """The networks that nothing known is better than. What they are is a column of `ids`, of shape (3, n)."""

    @property
    def ids(self) -> IntArray:
        """Of all of them; in order, if there is one."""

    def limit(self, costs: FloatArray) -> FloatArray:
        """What a score must stay below to be worth knowing, at these costs or any higher: (costs, n) to (n,)."""

    def add(self, ids: IntArray, costs: FloatArray, scores: FloatArray) -> None:
        """Takes networks that stay below their limits. One may come again, but not in the same call."""


class BestIncumbents:
    """The k least scores."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._scores = np.zeros(0)
        self.ids: IntArray = np.zeros((3, 0), dtype=np.int64)

    def limit(self, costs: FloatArray) -> FloatArray:
        return np.full(costs.shape[1], self._scores[-1] if len(self._scores) == self._k else inf)

    def add(self, ids: IntArray, costs: FloatArray, scores: FloatArray) -> None:
        least = np.argsort(scores, kind="stable")[: self._k]
        ids, scores = np.hstack([self.ids, ids[:, least]]), np.append(self._scores, scores[least])
        _, first = np.unique(ids, axis=1, return_index=True)
        kept = first[np.argsort(scores[first], kind="stable")[: self._k]]
        self.ids, self._scores = ids[:, kept], scores[kept]


class FrontIncumbents:
    """The Pareto front of the score and the costs numbered `axes`; `low` and `high`, of shape (costs, 1), bound them.

    Limits come from a grid over the costs, which is quick and errs to the safe side; dominance itself is exact.
    """

    def __init__(self, axes: list[int], low: FloatArray, high: FloatArray) -> None:
        self._axes = axes
        self._levels = [_levels(float(low[axis, 0]), float(high[axis, 0]), _LEVELS[len(axes)]) for axis in axes]
        self._limits = np.full([len(levels) for levels in self._levels], inf)
        self._rows = np.zeros((0, len(axes) + 1))
        self._enough = MAX_FRONT // 2
        self._ids: IntArray = np.zeros((3, 0), dtype=np.int64)

    def limit(self, costs: FloatArray) -> FloatArray:
        below = [
            np.searchsorted(levels, costs[axis], side="right") - 1
            for axis, levels in zip(self._axes, self._levels, strict=True)
        ]
        limit: FloatArray = self._limits[tuple(below)]
        return limit

    def add(self, ids: IntArray, costs: FloatArray, scores: FloatArray) -> None:
        above = tuple(
            np.searchsorted(levels, costs[axis]) for axis, levels in zip(self._axes, self._levels, strict=True)
        )
        np.minimum.at(self._limits, above, scores)
        for axis in range(len(self._axes)):
            np.minimum.accumulate(self._limits, axis=axis, out=self._limits)
        self._ids = np.hstack([self._ids, ids])
        self._rows = np.vstack([self._rows, np.column_stack([*costs[self._axes], scores])])
        if len(self._rows) > self._enough:
            self._reduce()

    @property
    def ids(self) -> IntArray:
        self._reduce()
        return self._ids

    def _reduce(self) -> None:
        """Leaves out what is dominated."""
        kept = distinct_front(self._rows)
        self._rows, self._ids = self._rows[kept], self._ids[:, kept]
        self._enough = 2 * len(kept) + MAX_FRONT // 2
        if len(kept) > MAX_FRONT:
            raise UserError(
                f"a Pareto front must have at most {MAX_FRONT:,} networks, this one has more: {len(kept):,} of those "
                "looked at so far do not dominate each other; narrow the bounds, name one cost less, or give more "
                "choices an effect: where cost alone tells networks apart, all of them are on the front"
            )


def _levels(low: float, high: float, number: int) -> FloatArray:
    """At most about `number` whole costs from low to high, with both ends.

    Half of them crowd at the low end: a front begins with the cheapest network inside the bounds, whatever its score,
    and falls steeply from there.
    """
    even = np.geomspace(max(low, 1.0), max(high, 1.0), number // 2)
    crowded = low + np.geomspace(1.0, max(high - low, 1.0), number // 2)
    inner = np.concatenate([even, crowded]).round().clip(low, high)
    return np.unique(np.concatenate([[low], inner, [high]]))


def distinct_front(rows: FloatArray) -> IntArray:
    """Which rows, of shape (n, m), are on their Pareto front; of equal ones the first. Sorted by the first column."""
    distinct, first = np.unique(rows, axis=0, return_index=True)
    kept: IntArray = first[non_dominated(distinct)]
    return kept
