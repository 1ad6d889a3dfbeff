"""How good what a search evaluated is, against the best-known front. Only evaluated networks count, with true values.

Fronts are arrays of shape (n, 2) in a problem's `Bounds`: the ideal point is (0, 0), the reference (1, 1).
"""

from __future__ import annotations

import moocore
import numpy as np
import numpy.typing as npt

from sret_nas.arrays import FloatArray
from sret_nas.pareto import hypervolume, non_dominated

REFERENCE = (1.0, 1.0)
NUM_BUDGETS = 10


def front_of(points: FloatArray) -> FloatArray:
    """Returns the non-dominated rows, each once, sorted by value."""
    front: FloatArray = np.unique(points[non_dominated(points)], axis=0)
    return front


def regret(points: FloatArray, best: float) -> float:
    """Returns how many % of the best-known front's hypervolume, `best`, are missing."""
    return 100 * (1 - hypervolume(points, REFERENCE) / best)


def regret_curve(points: FloatArray, best: float) -> FloatArray:
    """Returns the regret after each evaluation, of shape (n,)."""
    front, curve, current = np.empty((0, 2)), [], 100.0
    for point in points:
        if not (front <= point).all(axis=1).any():
            front = front_of(np.vstack([front, point]))
            current = regret(front, best)
        curve.append(current)
    return np.array(curve)


def excess_values(
    values: npt.ArrayLike, costs: npt.ArrayLike, known: tuple[FloatArray, FloatArray], box: tuple[float, float]
) -> FloatArray:
    """Returns by how much the best value within each of ten budgets exceeds the best known one, of shape (10,).

    Budgets are spread evenly over the logarithm of the cost, from a step above the box's least to its most. `known`
    is the best-known front, values and costs. NaN where nothing known fits a budget; infinite where only a known one
    does.
    """
    budgets = np.geomspace(*box, NUM_BUDGETS + 1)[1:]
    found = _best_within(np.asarray(values, dtype=np.float64), np.asarray(costs, dtype=np.float64), budgets)
    best = _best_within(*known, budgets)
    return np.where(np.isinf(best), np.nan, found - np.where(np.isinf(best), 0, best))


def _best_within(values: FloatArray, costs: FloatArray, budgets: FloatArray) -> FloatArray:
    """Returns the least value at each budget; infinite where nothing is as cheap."""
    fits = costs[None, :] <= budgets[:, None]
    least: FloatArray = np.where(fits, values[None, :], np.inf).min(axis=1, initial=np.inf)
    return least


def igd_plus(points: FloatArray, front: FloatArray) -> float:
    """Returns the mean distance, counting only where it is worse, from the best-known front to the points (Ishibuchi,
    2015)."""
    return float(moocore.igd_plus(front_of(points), ref=front))


def recommended(told: npt.ArrayLike, costs: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Returns which networks a search would hand out: those not dominated by what it was told, of shape (n,)."""
    return non_dominated(np.column_stack([told, costs]))


def attainment(fronts: list[FloatArray], share: float, grid: FloatArray) -> FloatArray:
    """Returns the empirical attainment surface: at each cost of `grid`, the value that a `share` of the runs reached.

    `fronts` are rows (value, cost); of 20 runs, a share of 0.5 gives the 10th best. Infinite where too few reached any.
    """
    reached = np.array([_best_within(front[:, 0], front[:, 1], grid) for front in fronts])
    position = max(int(np.ceil(share * len(fronts))) - 1, 0)
    surface: FloatArray = np.sort(reached, axis=0)[position]
    return surface
