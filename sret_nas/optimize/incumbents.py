"""Incumbents of a branch and bound: the best networks found so far, and the pruning limits that follow from them."""

from __future__ import annotations

from math import inf
from typing import Protocol

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.errors import UserError
from sret_nas.pareto import non_dominated

MAX_FRONT = 20_000
"""Most networks of a Pareto front; a larger one is refused."""

_LEVELS = {1: 2**16, 2: 2**9}
"""Grid levels per cost that limits are kept for, by the number of costs of the front."""


class Incumbents(Protocol):
    """The best networks found so far; a column of `ids`, of shape (3, n), identifies each."""

    @property
    def ids(self) -> IntArray:
        """Ids of all incumbents, in order of score if they have one."""

    def limit(self, costs: FloatArray) -> FloatArray:
        """Returns the limits, of shape (n,), that a score must stay below to matter at costs of shape (costs, n).

        They also hold for all higher costs.
        """

    def add(self, ids: IntArray, costs: FloatArray, scores: FloatArray) -> None:
        """Adds networks whose scores stay below their limits.

        A network may be added again in a later call, but not twice in one call.
        """


class BestIncumbents:
    """The networks with the k least scores."""

    def __init__(self, k: int) -> None:
        """Starts without any network."""
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
    """The Pareto front of the score and one or two costs.

    Limits come from a grid over the costs, which is fast and prunes too little rather than too much. Dominance itself
    is exact.
    """

    def __init__(self, axes: list[int], low: FloatArray, high: FloatArray) -> None:
        """Starts without any network; `axes` are positions of costs, `low` and `high` (costs, 1) their bounds."""
        self._axes = axes
        self._levels = [_levels(float(low[axis, 0]), float(high[axis, 0]), _LEVELS[len(axes)]) for axis in axes]
        self._limits = np.full([len(levels) for levels in self._levels], inf)
        self._rows = np.zeros((0, len(axes) + 1))
        self._reduce_above = MAX_FRONT // 2
        self._ids: IntArray = np.zeros((3, 0), dtype=np.int64)

    def limit(self, costs: FloatArray) -> FloatArray:
        # At the grid level at or below the costs: this ignores networks beyond it, which errs on the safe side.
        below = [
            np.searchsorted(levels, costs[axis], side="right") - 1
            for axis, levels in zip(self._axes, self._levels, strict=True)
        ]
        limit: FloatArray = self._limits[tuple(below)]
        return limit

    def add(self, ids: IntArray, costs: FloatArray, scores: FloatArray) -> None:
        # A score limits all grid levels at or above its costs.
        above = tuple(
            np.searchsorted(levels, costs[axis]) for axis, levels in zip(self._axes, self._levels, strict=True)
        )
        np.minimum.at(self._limits, above, scores)
        for axis in range(len(self._axes)):
            np.minimum.accumulate(self._limits, axis=axis, out=self._limits)
        self._ids = np.hstack([self._ids, ids])
        self._rows = np.vstack([self._rows, np.column_stack([*costs[self._axes], scores])])
        if len(self._rows) > self._reduce_above:
            self._reduce()

    @property
    def ids(self) -> IntArray:
        self._reduce()
        return self._ids

    def _reduce(self) -> None:
        """Drops dominated networks. Raises `UserError` for more than `MAX_FRONT` others."""
        kept = distinct_front(self._rows)
        self._rows, self._ids = self._rows[kept], self._ids[:, kept]
        self._reduce_above = 2 * len(kept) + MAX_FRONT // 2
        if len(kept) > MAX_FRONT:
            raise UserError(
                f"a Pareto front must have at most {MAX_FRONT:,} networks, this one has more: {len(kept):,} of those "
                "looked at so far do not dominate each other; narrow the bounds, name one cost less, or give more "
                "choices an effect: where cost alone tells networks apart, all of them are on the front"
            )


def _levels(low: float, high: float, num_levels: int) -> FloatArray:
    """Returns at most about `num_levels` integers from `low` to `high`, including both.

    Half of them lie close to the low end, because a front falls steeply there: it begins with the cheapest network
    inside the bounds, whatever its score.
    """
    even = np.geomspace(max(low, 1.0), max(high, 1.0), num_levels // 2)
    crowded = low + np.geomspace(1.0, max(high - low, 1.0), num_levels // 2)
    inner = np.concatenate([even, crowded]).round().clip(low, high)
    return np.unique(np.concatenate([[low], inner, [high]]))


def distinct_front(rows: FloatArray) -> IntArray:
    """Returns the positions of the rows on the Pareto front, sorted by the first column; of equal rows the first.

    `rows` has the shape (n, m).
    """
    distinct, first = np.unique(rows, axis=0, return_index=True)
    kept: IntArray = first[non_dominated(distinct)]
    return kept
