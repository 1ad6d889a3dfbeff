"""The covariance of what sums of effects miss, from the levels of two points x and y.

    cov = s^2 exp(-sum over a of w_a [x_a differs from y_a]) + t^2 exp(-sum over a of v_a (x_a - y_a)^2)

The first part is rough: it is exponential in a weighted Hamming distance, and knows no order of levels. The second is
smooth, as in ordinary Bayesian optimisation: it takes levels as numbers from 0 to 1, so what is learned of some levels
tells of those between. Every attribute a has a weight of its own in each part (automatic relevance determination).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain

_VARIANCE, _VARIANCE_SD = 0.1, 2.0
"""Hyperprior of the variance of each part: median, and standard deviation of its log."""
_ROUGH, _ROUGH_SD = 1.5, 1.2
"""The same for the weights of the rough part; the median is divided by the square root of the number of attributes."""
_SMOOTH, _SMOOTH_SD = 3.0, 1.2
"""The same for those of the smooth part; the median is divided by the number of attributes."""
_VARIANCE_BOUNDS, _WEIGHT_BOUNDS = (float(np.log(1e-6)), float(np.log(1e2))), (-9.0, 4.0)
"""Bounds of the logarithms."""


@dataclass(frozen=True, eq=False)
class Levels:
    """Levels of n points in all attributes that vary.

    Attributes:
        one_hot: A one per attribute, shape (n, levels of all attributes).
        scaled: Levels from 0 to 1, shape (n, attributes).
    """

    one_hot: FloatArray
    scaled: FloatArray

    def take(self, chosen: IntArray) -> Levels:
        """Returns some of the points."""
        return Levels(self.one_hot[chosen], self.scaled[chosen])


class Kernel:
    """The covariance between points of a chain.

    Its parameters are given by their logarithms: the variances s^2 and t^2, then all w and all v.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._varied = [
            (stage_index, column)
            for stage_index, stage in enumerate(chain.stages)
            for column, number in enumerate(stage.num_levels)
            if number > 1
        ]
        self._sizes = np.array([chain.stages[stage].num_levels[column] for stage, column in self._varied], dtype=int)
        self._starts = np.cumsum([0, *self._sizes])[:-1].astype(np.intp)
        self._attribute_of_column = np.repeat(np.arange(len(self._sizes)), self._sizes)

    def levels(self, points: IntArray) -> Levels:
        """Returns the levels of points, shape (n, stages)."""
        columns = [self._chain.stages[stage].levels[points[:, stage], column] for stage, column in self._varied]
        table = np.array(columns, dtype=np.int64).reshape(len(columns), len(points)).T
        one_hot = np.zeros((len(points), int(self._sizes.sum())))
        one_hot[np.arange(len(points))[:, None], self._starts + table] = 1.0
        return Levels(one_hot, table / (self._sizes - 1))

    @property
    def center(self) -> FloatArray:
        """Medians of the parameters under the hyperprior, as logarithms."""
        number = len(self._varied)
        rough, smooth = [_ROUGH / max(number, 1) ** 0.5] * number, [_SMOOTH / max(number, 1)] * number
        center: FloatArray = np.log([_VARIANCE, _VARIANCE, *rough, *smooth])
        return center

    @property
    def spread(self) -> FloatArray:
        """Standard deviations of the logarithms under the hyperprior."""
        number = len(self._varied)
        return np.array([_VARIANCE_SD] * 2 + [_ROUGH_SD] * number + [_SMOOTH_SD] * number)

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Bounds of the logarithms."""
        return [_VARIANCE_BOUNDS] * 2 + [_WEIGHT_BOUNDS] * (2 * len(self._varied))

    @staticmethod
    def variance(logs: FloatArray) -> float:
        """Returns the variance of every point."""
        return float(np.exp(logs[:2]).sum())

    def _weights(self, logs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns the weights of the rough and of the smooth part, each of shape (attributes,)."""
        rough, smooth = np.exp(logs[2:]).reshape(2, len(self._varied))
        return rough, smooth

    def parts(self, logs: FloatArray, ones: Levels, others: Levels) -> tuple[FloatArray, FloatArray]:
        """Returns both parts of the covariance between n and m points, each of shape (n, m)."""
        rough, smooth = self._weights(logs)
        alike = (ones.one_hot * rough[self._attribute_of_column]) @ others.one_hot.T
        left, right = ones.scaled * smooth**0.5, others.scaled * smooth**0.5
        apart = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
        return np.exp(logs[0] + alike - rough.sum()), np.exp(logs[1] - np.maximum(apart, 0.0))

    def gradient(self, logs: FloatArray, levels: Levels, rough: FloatArray, smooth: FloatArray) -> FloatArray:
        """Returns derivatives by the parameters of the sum over pairs of points of F_ij (rough + smooth)_ij.

        Args:
            logs: The parameters.
            levels: Levels of n points.
            rough: The symmetric factors F times the rough part, shape (n, n).
            smooth: The same times the smooth part.
        """
        one_hot, scaled = levels.one_hot, levels.scaled
        of_rough, of_smooth = self._weights(logs)
        # Sums over the pairs that share an attribute's level; the other pairs lose by its weight.
        alike = np.add.reduceat((one_hot * (rough @ one_hot)).sum(axis=0), self._starts)
        apart = 2 * (smooth.sum(axis=1) @ scaled**2 - (scaled * (smooth @ scaled)).sum(axis=0))
        total = rough.sum()
        return np.concatenate([[total, smooth.sum()], of_rough * (alike - total), -of_smooth * apart])
