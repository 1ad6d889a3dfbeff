"""Paired comparison of two variants of a study: the differences of their errors, seed by seed.

Equal seeds have equal orders and augmentations of the images, so that a difference within a seed has less noise than
one between means. With few seeds, how far the differences scatter is hardly known, which Student's t accounts for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.9
"""Probability with which intervals contain what many seeds would give."""

MIN_EQUAL = 5
"""Seeds whose differences may be equal and yet tell which variant is better. Errors are whole numbers of images, so a
few seeds are often equal by chance, and the interval is a point. That five agree in sign has a chance of 1 in 16 (the
two-sided sign test)."""

Verdict = Literal["holds", "does not hold", "cannot tell", "not run"]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, with an interval by Student's t; infinite for a single seed."""

    mean: float
    low: float
    high: float
    seeds: int
    spread: float
    """Standard deviation over the seeds; 0 for one seed."""

    @classmethod
    def of(cls, values: list[float]) -> Interval:
        """Returns the interval of at least one value."""
        mean = fmean(values)
        if len(values) == 1:
            return cls(mean, -math.inf, math.inf, 1, 0.0)
        spread = stdev(values)
        half = float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2)) * spread / math.sqrt(len(values))
        return cls(mean, mean - half, mean + half, len(values), spread)


@dataclass(frozen=True)
class PairedDifference:
    """The errors of a variant less those of another on the same seeds."""

    interval: Interval
    p_value: float | None
    """Two-sided p value of the paired t test; None for a single seed, or if all differences are equal."""
    positive: int
    """Seeds on which the first variant has the larger error."""
    negative: int

    @classmethod
    def of(cls, first: Mapping[int, float], second: Mapping[int, float]) -> PairedDifference | None:
        """Returns the difference of errors by seed; None if no seed has both."""
        # Rounded, so that differences of equal counts of images are equal, and have no spread of 1e-15.
        differences = [round(first[seed] - second[seed], 9) for seed in sorted(first.keys() & second.keys())]
        if not differences:
            return None
        interval, p_value = Interval.of(differences), None
        if interval.spread > 0:
            t = interval.mean / (interval.spread / math.sqrt(interval.seeds))
            p_value = float(2 * stdtr(interval.seeds - 1, -abs(t)))
        return cls(
            interval, p_value, sum(value > 0 for value in differences), sum(value < 0 for value in differences)
        )  # fmt: skip


def judge_order(difference: PairedDifference | None) -> Verdict:
    """Returns whether the second variant of a difference is better: whether the interval lies above 0, or below.

    A few equal differences tell nothing (`MIN_EQUAL`).
    """
    if difference is None:
        return "not run"
    if difference.interval.spread == 0 and difference.interval.seeds < MIN_EQUAL:
        return "cannot tell"
    if difference.interval.low > 0:
        return "holds"
    return "does not hold" if difference.interval.high < 0 else "cannot tell"


def judge_equality(difference: PairedDifference | None, within: float) -> Verdict:
    """Returns whether two variants differ by at most `within`: whether the interval lies inside, or outside."""
    if difference is None:
        return "not run"
    low, high = difference.interval.low, difference.interval.high
    if -within <= low and high <= within:
        return "holds"
    return "does not hold" if low > within or high < -within else "cannot tell"
