"""Dominance and hypervolume; every objective is minimised.

A point dominates another if it is nowhere worse and somewhere better, so equal points do not dominate each other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def non_dominated(points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which rows of `points`, of shape (n, m) with m >= 1, no other row dominates; a mask of shape (n,).

    Equal rows are all kept or all left out. Infinities are ordinary values. Raises `ValueError` for NaN.
    """
    table = _checked(points)
    if len(table) == 0:
        return np.zeros(0, dtype=bool)
    rows, inverse = np.unique(table, axis=0, return_inverse=True)  # sorted by the first column, then the second, ...
    is_front = _front_of_two(rows) if table.shape[1] <= 2 else _front_of_many(rows)
    mask: npt.NDArray[np.bool_] = is_front[inverse.reshape(-1)]
    return mask


def hypervolume(points: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """The volume that the rows of `points`, of shape (n, 2) or (n, 3), dominate inside the finite `reference` point.

    Points that are not better than the reference in every objective add nothing; a point at minus infinity adds
    everything. Raises `ValueError` for NaN, another number of objectives or a reference that is not finite.
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
    table = np.asarray(points, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 1:
        raise ValueError(f"points must have the shape (n, m) with m at least 1, got {table.shape}")
    if np.isnan(table).any():
        raise ValueError(f"points must not hold NaN, got it in row {int(np.argwhere(np.isnan(table))[0, 0])}")
    return table


def _front_of_two(rows: FloatArray) -> npt.NDArray[np.bool_]:
    """Of distinct sorted rows with one or two columns: those whose last column is below all earlier ones'."""
    last = rows[:, -1]
    is_front = np.ones(len(rows), dtype=bool)
    if rows.shape[1] == 1:
        is_front[1:] = False
    else:
        is_front[1:] = last[1:] < np.minimum.accumulate(last)[:-1]
    return is_front


def _front_of_many(rows: FloatArray) -> npt.NDArray[np.bool_]:
    """Of distinct sorted rows: a row can only be dominated by an earlier one, and then by one that is on the front."""
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
    """The area under a front of distinct rows sorted by their first column: one rectangle per row."""
    heights = np.concatenate([corner[1:2], front[:-1, 1]]) - front[:, 1] if len(front) else np.zeros(0)
    return float(((corner[0] - front[:, 0]) * heights).sum())


def _volume(front: FloatArray, corner: FloatArray) -> float:
    """The volume under a front: the third objective cuts it into slabs, each the area of the rows below it."""
    levels, volume = np.unique(front[:, 2]), 0.0
    for level, above in zip(levels, [*levels[1:], corner[2]], strict=False):
        below = front[front[:, 2] <= level, :2]
        volume += _area(np.unique(below[non_dominated(below)], axis=0), corner[:2]) * float(above - level)
    return volume
