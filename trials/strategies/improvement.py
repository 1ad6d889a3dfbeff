"""Hypervolume that candidates are expected to add to what is known: how `additive` chooses among them.

The volume lies between the best value within each cost and a worst value. The gain of a candidate is averaged over
draws of what it may be worth, and the next is chosen as if the ones before it had been evaluated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from sret_nas.arrays import FloatArray
from sret_nas.pareto import non_dominated

LEVELS = 256
"""Levels of cost at which improvement is measured, where several costs matter."""
MAX_STEPS = 400
"""Points that are all looked at, whether or not they are on the front."""


class Improvement(ABC):
    """`gains` are told as sums over draws; `take` counts a candidate as evaluated."""

    @abstractmethod
    def gains(self, among: int) -> FloatArray:
        """Volume that each of the first `among` candidates would add, summed over draws."""

    @abstractmethod
    def take(self, position: int) -> None:
        """Counts a candidate as evaluated, with what each draw believes of it."""

    def choose(self, number: int, among: int) -> list[int]:
        """The candidates, of the first `among`, that add most one after the other."""
        chosen: list[int] = []
        for _ in range(min(number, among)):
            gains = self.gains(among)
            gains[chosen] = -1
            chosen.append(int(np.argmax(gains)))
            self.take(chosen[-1])
        return chosen


def improvement(
    costs: FloatArray, values: FloatArray, new_costs: FloatArray, beliefs: FloatArray, max_steps: int = MAX_STEPS
) -> Improvement:
    """`costs` (known, paid) and `values` (known,) are of labelled points, `new_costs` (n, paid) of candidates, and
    `beliefs` (n, draws) what they may be worth; less is better in all of them."""
    if costs.shape[1] == 1:
        counts = _that_count(costs, values, max_steps)
        return InOneCost(costs[counts, 0], values[counts], new_costs[:, 0], beliefs)
    return InSeveralCosts(costs, values, new_costs, beliefs)


class InOneCost(Improvement):
    """Exact: the best value within a cost is a staircase that falls with cost, with steps at known costs alone."""

    def __init__(self, costs: FloatArray, values: FloatArray, new_costs: FloatArray, beliefs: FloatArray) -> None:
        levels = np.unique(np.concatenate([costs, new_costs]))
        self._beliefs, self._at = beliefs, np.searchsorted(levels, new_costs)
        self._widths = np.diff(levels, append=levels[-1])
        best = np.full(len(levels), _worst(values))
        np.minimum.at(best, np.searchsorted(levels, costs), values)
        self._best = np.minimum.accumulate(best)[:, None].repeat(beliefs.shape[1], axis=1)

    def gains(self, among: int) -> FloatArray:
        """A candidate lowers the staircase from its own cost up to where that is as low anyway."""
        at, wide = self._at[:among], _sums(self._widths)
        total = np.zeros(among)
        for best, beliefs in zip(self._best.T, self._beliefs[:among].T, strict=True):
            area = _sums(best * self._widths)
            end = np.maximum(at, len(best) - np.searchsorted(best[::-1], beliefs, side="right"))
            total += area[end] - area[at] - beliefs * (wide[end] - wide[at])
        return total

    def take(self, position: int) -> None:
        stairs = self._best[self._at[position] :]
        np.minimum(stairs, self._beliefs[position], out=stairs)


class InSeveralCosts(Improvement):
    """Measured at a sample of cost levels: at each, what counts is the best value so far within it."""

    def __init__(self, costs: FloatArray, values: FloatArray, new_costs: FloatArray, beliefs: FloatArray) -> None:
        levels = _levels(np.concatenate([costs, new_costs]))
        self._beliefs = beliefs
        self._affords: npt.NDArray[np.bool_] = np.all(new_costs[:, None] <= levels, axis=2)
        best = np.where((costs[:, None] <= levels).all(axis=2), values[:, None], _worst(values)).min(axis=0)
        self._best = best[:, None].repeat(beliefs.shape[1], axis=1)

    def gains(self, among: int) -> FloatArray:
        affords, beliefs = self._affords, self._beliefs
        return np.array([np.maximum(self._best[affords[at]] - beliefs[at], 0).sum() for at in range(among)])

    def take(self, position: int) -> None:
        affords = self._affords[position]
        self._best[affords] = np.minimum(self._best[affords], self._beliefs[position])


def _that_count(costs: FloatArray, values: FloatArray, max_steps: int) -> npt.NDArray[np.bool_]:
    """Which of many points: those at steps of the staircase, and its ends, the worst value and the highest cost. What
    a gain is does not depend on the others, and what it takes to compute does."""
    if len(values) <= max_steps:
        return np.ones(len(values), dtype=bool)
    counts = non_dominated(np.column_stack([costs, values]))
    counts[[np.argmax(values), np.argmax(costs[:, 0])]] = True
    return counts


def _worst(values: FloatArray) -> float:
    """Where nothing is known within a cost: a tenth of the spread above the worst known value."""
    return float(values.max() + 0.1 * np.ptp(values))


def _sums(values: FloatArray) -> FloatArray:
    """Sums of the first 0, 1, ... values."""
    return np.concatenate([[0.0], np.cumsum(values)])


def _levels(costs: FloatArray) -> FloatArray:
    """Levels of cost, of shape (levels, costs), spread evenly (Halton) over the box of costs."""
    low, high = costs.min(axis=0, initial=np.inf), costs.max(axis=0, initial=-np.inf)
    if costs.shape[1] == 0:
        return np.zeros((1, 0))
    grid = qmc.Halton(costs.shape[1], scramble=False).random(LEVELS + 1)[1:]
    levels: FloatArray = low + (high - low) * grid
    return levels
