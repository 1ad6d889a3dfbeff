"""Expected hypervolume improvement, by which `additive` chooses a batch of candidates.

The hypervolume lies between a worst value and, at each cost, the best value of the points within that cost. A
candidate's gain is averaged over posterior draws of its value. A batch is chosen greedily: each candidate counts as
evaluated, at the value of each draw, when the next is chosen.

Values far above the others count by the logarithm of their distance (`_Tail`). Costs that span a factor of
`WIDE` or more count by their logarithms, so that every doubling of a budget matters alike, as in designs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import FloatArray
from sret_nas.pareto import non_dominated

LEVELS = 256
"""Sampled levels of cost at which improvement is measured if several costs are objectives."""
FENCE = 3.0
"""Interquartile ranges above the upper quartile from which a value is an outlier (Tukey's far fence, 1977)."""
WIDE = 20.0
"""How many times the least cost of labelled points the largest must be, for costs to count by their logarithms."""
MAX_STEPS = 400
"""Number of labelled points up to which all are used, on the front or not."""


class Improvement(ABC):
    """Computes hypervolume gains of candidates, and chooses among them greedily."""

    @abstractmethod
    def gains(self, among: int) -> FloatArray:
        """Returns the hypervolume that each of the first `among` candidates adds, summed over draws, shape (among,)."""

    @abstractmethod
    def take(self, position: int) -> None:
        """Counts a candidate as evaluated, in each draw with the value of that draw."""

    def choose(self, number: int, among: int) -> list[int]:
        """Returns up to `number` of the first `among` candidates, chosen greedily by gain."""
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
    """Returns the improvement for the given number of costs.

    Args:
        costs: Costs of labelled points, shape (labelled, costs).
        values: Their values, shape (labelled,); lower is better, as for all arguments.
        new_costs: Costs of the candidates, shape (n, costs).
        beliefs: Posterior draws of the candidates' values, shape (n, draws).
        max_steps: Number of labelled points up to which all are used.
    """
    tail = _Tail.of(values)
    values, beliefs = tail.shortened(values), tail.shortened(beliefs)
    worst = float(values.max() + 0.1 * np.ptp(values))
    least = np.concatenate([costs, new_costs]).min(axis=0)
    is_wide = (least > 0) & (costs.max(axis=0) >= WIDE * costs.min(axis=0))
    costs, new_costs = _by_logarithms(costs, is_wide), _by_logarithms(new_costs, is_wide)
    if costs.shape[1] == 1:
        counts = _that_count(costs, values, max_steps)
        return InOneCost(costs[counts, 0], values[counts], new_costs[:, 0], beliefs, worst)
    return InSeveralCosts(costs, values, new_costs, beliefs, worst)


@dataclass(frozen=True)
class _Tail:
    """A scale on which values beyond a fence are closer.

    Else the improvement that is possible on a few far worse values, mostly at the least costs, would count more than
    all others. The scale keeps the order of values, so that whatever improves the front still gains something.
    """

    fence: float
    unit: float
    """Interquartile range; 0 if values are not to be changed."""

    @classmethod
    def of(cls, values: FloatArray) -> _Tail:
        low, high = np.quantile(values, [0.25, 0.75])
        return cls(float(high + FENCE * (high - low)), float(high - low))

    def shortened(self, values: FloatArray) -> FloatArray:
        """Returns values on the scale: as they are up to the fence, then growing by the logarithm of the distance."""
        if self.unit <= 0:
            return values
        beyond = np.maximum(values - self.fence, 0.0)
        shortened: FloatArray = np.minimum(values, self.fence) + self.unit * np.log1p(beyond / self.unit)
        return shortened


class InOneCost(Improvement):
    """Exact improvement for one cost: the best value within a cost is a step function, with steps at known costs."""

    def __init__(
        self, costs: FloatArray, values: FloatArray, new_costs: FloatArray, beliefs: FloatArray, worst: float
    ) -> None:  # fmt: skip
        levels = np.unique(np.concatenate([costs, new_costs]))
        self._beliefs, self._level = beliefs, np.searchsorted(levels, new_costs)
        self._widths = np.diff(levels, append=levels[-1])
        best = np.full(len(levels), worst)
        np.minimum.at(best, np.searchsorted(levels, costs), values)
        self._best = np.minimum.accumulate(best)[:, None].repeat(beliefs.shape[1], axis=1)

    def gains(self, among: int) -> FloatArray:
        # A candidate lowers the steps from its own cost up to the first step that is as low already.
        start, width = self._level[:among], _cumulative(self._widths)
        total = np.zeros(among)
        for best, beliefs in zip(self._best.T, self._beliefs[:among].T, strict=True):
            area = _cumulative(best * self._widths)
            end = np.maximum(start, len(best) - np.searchsorted(best[::-1], beliefs, side="right"))
            total += area[end] - area[start] - beliefs * (width[end] - width[start])
        return total

    def take(self, position: int) -> None:
        steps = self._best[self._level[position] :]
        np.minimum(steps, self._beliefs[position], out=steps)


class InSeveralCosts(Improvement):
    """Approximate improvement for several costs: summed over sampled levels of cost, of the best value within each."""

    def __init__(
        self, costs: FloatArray, values: FloatArray, new_costs: FloatArray, beliefs: FloatArray, worst: float
    ) -> None:  # fmt: skip
        levels = _levels(np.concatenate([costs, new_costs]))
        self._beliefs = beliefs
        self._affords: npt.NDArray[np.bool_] = np.all(new_costs[:, None] <= levels, axis=2)
        best = np.where((costs[:, None] <= levels).all(axis=2), values[:, None], worst).min(axis=0)
        self._best = best[:, None].repeat(beliefs.shape[1], axis=1)

    def gains(self, among: int) -> FloatArray:
        affords, beliefs = self._affords, self._beliefs
        return np.array([np.maximum(self._best[affords[n]] - beliefs[n], 0).sum() for n in range(among)])

    def take(self, position: int) -> None:
        affords = self._affords[position]
        self._best[affords] = np.minimum(self._best[affords], self._beliefs[position])


def _by_logarithms(costs: FloatArray, chosen: npt.NDArray[np.bool_]) -> FloatArray:
    """Returns costs (n, costs) with the chosen columns by their logarithms."""
    measured: FloatArray = np.where(chosen, np.log(np.where(chosen, costs, 1.0)), costs)
    return measured


def _that_count(costs: FloatArray, values: FloatArray, max_steps: int) -> npt.NDArray[np.bool_]:
    """Returns a mask of the labelled points that matter for gains; all if there are up to `max_steps`.

    Those are the front and the highest cost. The others change no gain, but cost time.
    """
    if len(values) <= max_steps:
        return np.ones(len(values), dtype=bool)
    counts = non_dominated(np.column_stack([costs, values]))
    counts[np.argmax(costs[:, 0])] = True
    return counts


def _cumulative(values: FloatArray) -> FloatArray:
    """Returns the sums of the first 0, 1, ..., n values."""
    return np.concatenate([[0.0], np.cumsum(values)])


def _levels(costs: FloatArray) -> FloatArray:
    """Returns levels of cost, shape (levels, costs): a Halton sequence in the bounding box of the costs."""
    low, high = costs.min(axis=0, initial=np.inf), costs.max(axis=0, initial=-np.inf)
    if costs.shape[1] == 0:
        return np.zeros((1, 0))
    from scipy.stats import qmc  # half a second, for few searches

    grid = qmc.Halton(costs.shape[1], scramble=False).random(LEVELS + 1)[1:]
    levels: FloatArray = low + (high - low) * grid
    return levels
