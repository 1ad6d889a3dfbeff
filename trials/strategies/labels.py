"""What a strategy has been told of its candidates, final values and those of trials that were stopped early.

A stopped trial's values are no final ones: training on would have made them smaller. What it would have come to is
predicted from the trials that went on, rung by rung: a line through what they had at a rung and at the next. Which ones
go on is decided by what they had at the rung, and that leaves the line where it is.
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
"""Trials that a slope of one is worth, in a line's fit."""


class Observations(Generic[P]):
    """Points that have been told of, in the order of the first telling, and their objective values."""

    def __init__(self) -> None:
        self._points: dict[Hashable, P] = {}
        self._rungs: list[dict[Hashable, Values]] = []
        self._final: dict[Hashable, Values] = {}

    def __len__(self) -> int:
        return len(self._points)

    def add(self, key: Hashable, point: P, values: Values) -> None:
        """Final values of a candidate."""
        self._points.setdefault(key, point)
        self._final[key] = values

    def add_partial(self, key: Hashable, point: P, rung: int, values: Values) -> None:
        """Values of a candidate at a rung, counted from 0, before its end."""
        self._points.setdefault(key, point)
        while len(self._rungs) <= rung:
            self._rungs.append({})
        self._rungs[rung][key] = values

    @property
    def points(self) -> list[P]:
        return list(self._points.values())

    @property
    def is_final(self) -> npt.NDArray[np.bool_]:
        """Of every point, whether its values are final ones."""
        return np.array([key in self._final for key in self._points], dtype=bool)

    def values(self) -> FloatArray:
        """The objective values of every point, of shape (n, objectives): final ones, told or predicted.

        Before any trial has come to its end, what it would have at the farthest rung that one has come to."""
        found = dict(self._final)
        offset: FloatArray | float = 0.0
        slope: FloatArray | float = 1.0
        after = self._final
        for told in reversed(self._rungs):
            own_offset, own_slope = _line(told, after)
            offset, slope = offset + slope * own_offset, slope * own_slope
            for key, values in told.items():
                if key not in found:
                    found[key] = tuple((offset + slope * np.array(values)).tolist())
            after = told
        return np.array([found[key] for key in self._points])


def _line(told: dict[Hashable, Values], after: dict[Hashable, Values]) -> tuple[FloatArray, FloatArray]:
    """Offset and slope of each objective, of shape (objectives,), that lead from values at a rung to later ones."""
    every = np.array(list(told.values()))
    both = [key for key in told if key in after]
    if not both:
        return np.zeros(every.shape[1]), np.ones(every.shape[1])
    here, there = np.array([told[key] for key in both]), np.array([after[key] for key in both])
    from_mean, spread = here - here.mean(axis=0), PRIOR_PAIRS * every.var(axis=0)
    prior = np.where(spread > 0, spread, 1.0)
    slope = ((from_mean * (there - there.mean(axis=0))).sum(axis=0) + prior) / ((from_mean**2).sum(axis=0) + prior)
    return there.mean(axis=0) - slope * here.mean(axis=0), slope
