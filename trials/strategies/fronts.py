"""Who goes first among many points: NSGA-II's ranks and crowding distances (Deb et al., 2002). All is made small."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import FloatArray
from sret_nas.pareto import non_dominated

IndexArray = npt.NDArray[np.intp]


def front_ranks(points: FloatArray, enough: int | None = None) -> IndexArray:
    """The front of each row of `points` (n, m), as an array (n,): 0 if no row dominates it, 1 if only rows of front 0
    do, and so on.

    Once the fronts hold `enough` rows, the rest are given the next rank together. Raises `ValueError` for NaN.
    """
    ranks = np.zeros(len(points), dtype=np.intp)
    left, rank = np.arange(len(points)), 0
    while len(left) and (enough is None or len(points) - len(left) < enough):
        is_front = non_dominated(points[left])
        ranks[left[is_front]] = rank
        left, rank = left[~is_front], rank + 1
    ranks[left] = rank
    return ranks


def crowding_distances(points: FloatArray) -> FloatArray:
    """How far apart the neighbours of each row of `points` (n, m) are, summed over objectives: an array (n,).

    Distances are shares of an objective's range; the ends of a range are infinitely far. Points are finite.
    """
    distances = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        value = column[order]
        span = value[-1] - value[0] if len(value) else 0.0
        if span > 0:
            gap = np.full(len(value), np.inf)
            gap[1:-1] = (value[2:] - value[:-2]) / span
            distances[order] += gap
    return distances


def most_spread(points: FloatArray, number: int) -> IndexArray:
    """Positions of `number` rows of `points` (n, m) that leave the widest gaps: the most crowded is dropped in turn."""
    kept = np.arange(len(points))
    while len(kept) > number:
        kept = np.delete(kept, np.argmin(crowding_distances(points[kept])))
    return kept


def best_of(points: FloatArray, number: int) -> IndexArray:
    """Positions of `number` rows of `points` (n, m), best first: NSGA-II's choice by rank, then by crowding."""
    ranks = front_ranks(points, enough=number)
    crowding = np.zeros(len(points))
    for rank in range(int(ranks.max(initial=-1)) + 1):
        front = np.flatnonzero(ranks == rank)
        crowding[front] = crowding_distances(points[front])
    return np.lexsort((-crowding, ranks))[:number]
