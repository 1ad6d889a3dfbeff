"""Which trials go on: asynchronous successive halving with several objectives and no waiting.

A trial is compared at rungs, each `eta` times as far as the one before, the last of which is its end. At a rung it is
ranked among those that came there before it, and goes on if it is among the best of one in `eta`; the first `eta` do
in any case. Points are ranked by the front they are on (Deb et al., 2002), and inside a front by an epsilon-net
(Salinas et al., 2021): the least of the first objective, then always the one that is farthest from those before it. So
a trial that beats all others goes on, and of a crowded front its ends do before its middle.

Costs are known beforehand and budgets are met by every trial, so only errors differ from rung to rung.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque

import numpy as np
import numpy.typing as npt

from sret_nas.pareto import FloatArray

from .fronts import front_ranks

MAX_COMPARED = 300
"""A trial is compared with so many that came to its rung last: a search gets better, and asks more of a trial then."""
SIMULATIONS, MAX_SIMULATED = 20, 1000
"""Searches, and trials of each, that tell beforehand how many go on."""
ETA = 3
"""Of so many trials at a rung, one goes on (Li et al., 2020)."""


def shares_of(num_rungs: int, eta: int = ETA) -> tuple[float, ...]:
    """How far each rung is, as a share of the whole trial: for three rungs 1/9, 1/3 and 1."""
    return tuple(float(eta) ** (rung + 1 - num_rungs) for rung in range(num_rungs))


class SuccessiveHalving:
    """Decides at each rung but the last, from what it was told of that rung before, in the order of telling."""

    def __init__(self, num_rungs: int, eta: int = ETA) -> None:
        self.fractions = shares_of(num_rungs, eta)
        self._eta = eta
        self._points = [deque[tuple[float, ...]](maxlen=MAX_COMPARED) for _ in self.fractions]

    @property
    def last(self) -> int:
        return len(self.fractions) - 1

    def increment(self, rung: int) -> float:
        """The share of a whole trial that leads from the rung before to this one."""
        return self.fractions[rung] - (self.fractions[rung - 1] if rung > 0 else 0.0)

    def promote(self, rung: int, values: tuple[float, ...]) -> bool:
        """Whether a trial goes on beyond a rung; `values`, all to be made small, are comparable in their distances."""
        points = self._points[rung]
        points.append(values)
        if len(points) <= self._eta:
            return True
        return place(scaled(np.array(points)), len(points) - 1) < len(points) / self._eta

    def expected_work(self, number: int) -> float:
        """How much so many trials are, in whole trials, if they come in no order of merit: of a few tries, the mean."""
        rng, simulated = np.random.default_rng(0), min(number, MAX_SIMULATED)
        work = sum(self._work(rng.random(simulated).tolist()) for _ in range(SIMULATIONS)) / SIMULATIONS
        return work * number / max(1, simulated)

    def _work(self, errors: list[float]) -> float:
        """Whole trials that these are, where errors are what they will be from the first rung on."""
        work, there = 0.0, [list[float]() for _ in self.fractions]
        for error in errors:
            for rung, before in enumerate(there):
                work += self.increment(rung)
                insort(before, error)
                if len(before) > self._eta and bisect_left(before, error) >= len(before) / self._eta:
                    break
        return work


def scaled(points: FloatArray) -> FloatArray:
    """The columns of `points` (n, m) as shares of their range; a column whose range is nothing as zeros."""
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    shares: FloatArray = (points - low) / np.where(span > 0, span, 1.0)
    return shares


def place(points: FloatArray, number: int) -> int:
    """How many of the rows of `points` (n, m) go before row `number`; equal rows share the first of their places."""
    ranks = front_ranks(points)
    before = int((ranks < ranks[number]).sum())
    front = points[ranks == ranks[number]]
    for chosen, row in enumerate(epsilon_net(front)):
        if (front[row] == points[number]).all():
            return before + chosen
    raise AssertionError("a row is in its own front")


def epsilon_net(points: FloatArray) -> npt.NDArray[np.intp]:
    """The rows of `points` (n, m) in the order of an epsilon-net: first the least of the first objective, then always
    the row that is farthest from those before it. Of equals the first."""
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
