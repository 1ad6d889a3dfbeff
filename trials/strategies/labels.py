"""Observations of a strategy: final objective values, and predicted ones of trials that were stopped early.

The values of a stopped trial are not final: more training would have improved them. Its final values are predicted from
the promoted trials, rung by rung, by a linear regression of the values at the next rung on those at this one. Promotion
depends on the values at this rung, the regressor, so the selection does not bias the regression.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import FloatArray

P = TypeVar("P")
Values = tuple[float, ...]

PRIOR_PAIRS = 3.0
"""Weight of the prior, a slope of one, in trials."""


class Observations(Generic[P]):
    """Observed points, in the order of their first observation, and their objective values."""

    def __init__(self) -> None:
        self._points: dict[Hashable, P] = {}
        self._rungs: list[dict[Hashable, Values]] = []
        self._final: dict[Hashable, Values] = {}

    def __len__(self) -> int:
        return len(self._points)

    def add(self, key: Hashable, point: P, values: Values) -> None:
        """Adds the final values of a candidate."""
        self._points.setdefault(key, point)
        self._final[key] = values

    def add_partial(self, key: Hashable, point: P, rung: int, values: Values) -> None:
        """Adds the values of a candidate at a rung (counted from 0) before its end."""
        self._points.setdefault(key, point)
        while len(self._rungs) <= rung:
            self._rungs.append({})
        self._rungs[rung][key] = values

    @property
    def keys(self) -> list[Hashable]:
        return list(self._points)

    @property
    def points(self) -> list[P]:
        return list(self._points.values())

    @property
    def is_final(self) -> npt.NDArray[np.bool_]:
        """Whether each point's values are final, shape (n,)."""
        return np.array([key in self._final for key in self._points], dtype=bool)

    def values(self) -> FloatArray:
        """Returns the observed or predicted final values of all points, shape (n, objectives).

        Before any trial has finished, they are predicted for the farthest rung that a trial has reached.
        """
        final = dict(self._final)
        offset: FloatArray | float = 0.0
        slope: FloatArray | float = 1.0
        later = self._final
        for at_rung in reversed(self._rungs):
            own_offset, own_slope = _line(at_rung, later)
            offset, slope = offset + slope * own_offset, slope * own_slope
            for key, values in at_rung.items():
                if key not in final:
                    final[key] = tuple((offset + slope * np.array(values)).tolist())
            later = at_rung
        return np.array([final[key] for key in self._points])


def _line(at_rung: dict[Hashable, Values], later: dict[Hashable, Values]) -> tuple[FloatArray, FloatArray]:
    """Returns offset and slope, each of shape (objectives,), of the regression of later values on those at a rung."""
    every = np.array(list(at_rung.values()))
    both = [key for key in at_rung if key in later]
    if not both:
        return np.zeros(every.shape[1]), np.ones(every.shape[1])
    first, second = np.array([at_rung[key] for key in both]), np.array([later[key] for key in both])
    from_mean, spread = first - first.mean(axis=0), PRIOR_PAIRS * every.var(axis=0)
    prior = np.where(spread > 0, spread, 1.0)
    slope = ((from_mean * (second - second.mean(axis=0))).sum(axis=0) + prior) / ((from_mean**2).sum(axis=0) + prior)
    return second.mean(axis=0) - slope * first.mean(axis=0), slope
