"""Pareto dominance and hypervolume; every objective is minimised.

A point dominates another if it is no worse in every objective and better in at least one. Equal points therefore do
not dominate each other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import FloatArray


def non_dominated(points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Returns a mask of shape (n,) of the rows of `points` that no other row dominates.

    `points` has the shape (n, m) with m >= 1. Equal rows are all kept or all dropped. Infinities are ordinary values.
    Raises `ValueError` for NaN.
    """
    table = _checked(points)
    if len(table) == 0:
        return np.zeros(0, dtype=bool)
    rows, inverse = np.unique(table, axis=0, return_inverse=True)  # sorted by the first column, then the second, ...
    is_front = _front_of_two(rows) if table.shape[1] <= 2 else _front_of_many(rows)
    mask: npt.NDArray[np.bool_] = is_front[inverse.reshape(-1)]
    return mask


def hypervolume(points: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Returns the volume dominated by `points` and bounded by the finite `reference` point.

    `points` has the shape (n, 2) or (n, 3). A point that is not better than the reference in every objective adds
    nothing; a point at minus infinity adds an infinite volume. Raises `ValueError` for NaN, another number of
    objectives, or a reference that is not finite.
    """
    table, corner = _checked(points), np.asarray(reference, dtype=np.float64)
    if corner.shape not in ((2,), (3,)) or table.shape[1] != len(corner):
        raise ValueError(
            f"points must have 2 or 3 columns, as many as the reference, got {table.shape}, {corner.shape}"
        )
    if not np.isfinite(corner).all():
        raise ValueError(f"reference must be finite, got {corner.tolist()}")
    inside = table[(table < corner).all(axis=1)]
    front = np.unique(inside[non_dominated(inside)], axis=0)
    return _area(front, corner) if len(corner) == 2 else _volume(front, corner)


def _checked(points: npt.ArrayLike) -> FloatArray:
    """Returns points as a float array. Raises `ValueError` for another shape than (n, m) and for NaN."""
    table = np.asarray(points, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 1:
        raise ValueError(f"points must have the shape (n, m) with m at least 1, got {table.shape}")
    if np.isnan(table).any():
        raise ValueError(f"points must not hold NaN, got it in row {int(np.argwhere(np.isnan(table))[0, 0])}")
    return table


def _front_of_two(rows: FloatArray) -> npt.NDArray[np.bool_]:
    """Masks the front of distinct sorted rows with one or two columns: the last column must fall below all before."""
    last = rows[:, -1]
    is_front = np.ones(len(rows), dtype=bool)
    if rows.shape[1] == 1:
        is_front[1:] = False
    else:
        is_front[1:] = last[1:] < np.minimum.accumulate(last)[:-1]
    return is_front


def _front_of_many(rows: FloatArray) -> npt.NDArray[np.bool_]:
    """Masks the front of distinct sorted rows.

    Only an earlier row can dominate a row, and if one does, so does a row of the front.
    """
    front = np.empty_like(rows)
    num_front = 0
    is_front = np.zeros(len(rows), dtype=bool)
    for position, row in enumerate(rows):
        is_front[position] = not (front[:num_front] <= row).all(axis=1).any()
        if is_front[position]:
            front[num_front] = row
            num_front += 1
    return is_front


def _area(front: FloatArray, corner: FloatArray) -> float:
    """Sums one rectangle per row of a front, whose distinct rows are sorted by their first column."""
    heights = np.concatenate([corner[1:2], front[:-1, 1]]) - front[:, 1] if len(front) else np.zeros(0)
    return float(((corner[0] - front[:, 0]) * heights).sum())


def _volume(front: FloatArray, corner: FloatArray) -> float:
    """Sums slabs between successive values of the third objective; the rows at or below a slab give its area."""
    levels, volume = np.unique(front[:, 2]), 0.0
    for level, above in zip(levels, [*levels[1:], corner[2]], strict=False):
        below = front[front[:, 2] <= level, :2]
        volume += _area(np.unique(below[non_dominated(below)], axis=0), corner[:2]) * float(above - level)
    return volume
