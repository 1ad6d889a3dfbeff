"""Early stopping by asynchronous successive halving (Li et al., 2020) for several objectives.

Trials are compared at rungs, each `eta` times further than the one before; the last is the end. At a rung, a trial is
ranked among those that reached it earlier, and is promoted if it is in the best 1/eta; the first `eta` trials always
are. Points are ranked by their front (Deb et al., 2002), and within a front by an epsilon-net (Salinas et al., 2021):
first the minimum of the first objective, then repeatedly the point farthest from those before it. So a trial that
dominates all others is promoted, and on a crowded front the ends come before the middle.

Costs are exact, and every trial is inside the budget, so only errors change from rung to rung.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import FloatArray

from .fronts import front_ranks

MAX_COMPARED = 300
"""A trial is compared with at most the last trials at its rung, because candidates improve during a search."""
SIMULATIONS, MAX_SIMULATED = 20, 1000
"""Number of simulated searches, and of trials in each, that estimate how many trials are promoted."""
ETA = 3
"""The best 1/ETA of the trials at a rung are promoted."""


def fractions_of(num_rungs: int, eta: int = ETA) -> tuple[float, ...]:
    """Returns the rungs as fractions of a whole trial: 1/9, 1/3 and 1 for three rungs and eta 3."""
    return tuple(float(eta) ** (rung + 1 - num_rungs) for rung in range(num_rungs))


class SuccessiveHalving:
    """Promotes or stops trials at every rung but the last, depending on the order in which they reach it."""

    def __init__(self, num_rungs: int, eta: int = ETA) -> None:
        self.fractions = fractions_of(num_rungs, eta)
        self._eta = eta
        self._points = [deque[tuple[float, ...]](maxlen=MAX_COMPARED) for _ in self.fractions]

    @property
    def last(self) -> int:
        """The index of the last rung."""
        return len(self.fractions) - 1

    def increment(self, rung: int) -> float:
        """Returns the fraction of a whole trial between the rung before and this one."""
        return self.fractions[rung] - (self.fractions[rung - 1] if rung > 0 else 0.0)

    def promote(self, rung: int, values: tuple[float, ...]) -> bool:
        """Returns whether a trial is promoted beyond a rung, and remembers it for later comparisons.

        Args:
            values: Its objective values, all minimised, on scales where distances are meaningful.
        """
        points = self._points[rung]
        points.append(values)
        if len(points) <= self._eta:
            return True
        return rank_of(scaled(np.array(points)), len(points) - 1) < len(points) / self._eta

    def expected_work(self, num_trials: int) -> float:
        """Returns the expected cost of `num_trials` trials, in whole trials, if their order is random."""
        rng, simulated = np.random.default_rng(0), min(num_trials, MAX_SIMULATED)
        work = sum(self._work(rng.random(simulated).tolist()) for _ in range(SIMULATIONS)) / SIMULATIONS
        return work * num_trials / max(1, simulated)

    def _work(self, errors: list[float]) -> float:
        """Returns the cost, in whole trials, of trials whose errors do not change from rung to rung."""
        work, errors_at = 0.0, [list[float]() for _ in self.fractions]
        for error in errors:
            for rung, before in enumerate(errors_at):
                work += self.increment(rung)
                insort(before, error)
                if len(before) > self._eta and bisect_left(before, error) >= len(before) / self._eta:
                    break
        return work


def scaled(points: FloatArray) -> FloatArray:
    """Returns `points` (n, m) with each column scaled to [0, 1]; a constant column becomes zeros."""
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    unit: FloatArray = (points - low) / np.where(span > 0, span, 1.0)
    return unit


def rank_of(points: FloatArray, row: int) -> int:
    """Returns how many rows of `points` (n, m) are ranked before `row`; equal rows share the best of their ranks."""
    front_of = front_ranks(points)
    before = int((front_of < front_of[row]).sum())
    front = points[front_of == front_of[row]]
    for position, member in enumerate(epsilon_net(front)):
        if (front[member] == points[row]).all():
            return before + position
    raise AssertionError("a row is in its own front")


def epsilon_net(points: FloatArray) -> npt.NDArray[np.intp]:
    """Returns the rows of `points` (n, m) in the order of an epsilon-net (Salinas et al., 2021).

    First comes the minimum of the first objective, then repeatedly the row farthest from those before it. Ties go to
    the first row.
    """
    order = np.zeros(len(points), dtype=np.intp)
    if len(points) == 0:
        return order
    order[0] = np.lexsort(points.T[::-1])[0]
    distance = np.full(len(points), math.inf)
    for position in range(1, len(points)):
        distance = np.minimum(distance, np.linalg.norm(points - points[order[position - 1]], axis=1))
        distance[order[position - 1]] = -math.inf
        order[position] = np.argmax(distance)
    return order
