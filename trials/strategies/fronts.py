"""NSGA-II's non-dominated ranks and crowding distances (Deb et al., 2002). All objectives are minimised."""

from __future__ import annotations

import numpy as np

from sret_nas.arrays import FloatArray, IndexArray
from sret_nas.pareto import non_dominated


def front_ranks(points: FloatArray, enough: int | None = None) -> IndexArray:
    """Returns the rank (n,) of each row of `points` (n, m).

    It is 0 if no row dominates it, 1 if only rows of rank 0 do, and so on. Once `enough` rows are ranked, the others
    all get the next rank. Raises `ValueError` for NaN.
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
    """Returns the crowding distance (n,) of each row of finite `points` (n, m).

    It is the distance between a row's neighbours relative to the objective's range, summed over objectives. It is
    infinite at the ends of a range.
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
    """Returns the positions of `number` well-spread rows of `points` (n, m), dropping the most crowded one by one."""
    kept = np.arange(len(points))
    while len(kept) > number:
        kept = np.delete(kept, np.argmin(crowding_distances(points[kept])))
    return kept


def best_of(points: FloatArray, number: int) -> IndexArray:
    """Returns the positions of the `number` best rows of `points` (n, m): by rank, then by crowding, best first."""
    ranks = front_ranks(points, enough=number)
    crowding = np.zeros(len(points))
    for rank in range(int(ranks.max(initial=-1)) + 1):
        front = np.flatnonzero(ranks == rank)
        crowding[front] = crowding_distances(points[front])
    return np.lexsort((-crowding, ranks))[:number]
