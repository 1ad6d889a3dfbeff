"""A Gaussian process that adds what sums of effects miss to the additive model of an objective.

    y = c (trend + effects) + f(levels) + noise,   cov f = s^2 exp(-sum over attributes a of w_a [levels differ in a])

The kernel is exponential in a weighted Hamming distance. Every attribute has a weight of its own, the inverse of a
length (automatic relevance determination). Weights, scales and noise maximise the marginal likelihood under a weak
hyperprior; the variances of the effects are those of the additive model.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain
from sret_nas.surrogate.centred_features import CentredFeatures
from sret_nas.surrogate.model import Surrogate

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Shares of the prior's variance that are tried on the diagonal of a posterior covariance."""

MAX_LABELS = 400
"""Most labels that a process is conditioned on."""
MAX_FOR_LENGTHS = 200
"""Most labels that weights, scales and noise are fitted to; of more, evenly spaced ones are used."""
MAX_STEPS = 20
"""Most steps of that fit; it begins where the last one ended."""

_SCALE_SD = 0.7
"""Hyperprior of the log of the effects' scale: standard deviation about 0."""
_SIGNAL, _SIGNAL_SD = 0.1, 2.0
"""Hyperprior of the process's variance: median, and standard deviation of its log."""
_NOISE, _NOISE_SD = 0.003, 2.0
"""The same for the noise."""
_WEIGHT, _WEIGHT_SD = 1.5, 1.2
"""The same for the weights; the median is divided by the square root of the number of attributes."""


class Levels:
    """The levels of a chain's points in all attributes that vary, one-hot."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._varied = [
            (stage_index, column)
            for stage_index, stage in enumerate(chain.stages)
            for column, number in enumerate(stage.num_levels)
            if number > 1
        ]
        sizes = [chain.stages[stage_index].num_levels[column] for stage_index, column in self._varied]
        self.starts = np.cumsum([0, *sizes])[:-1].astype(np.intp)
        self.num_columns = int(sum(sizes))
        self.attribute_of_column = np.repeat(np.arange(len(sizes)), sizes)

    def __len__(self) -> int:
        return len(self._varied)

    def one_hot(self, points: IntArray) -> FloatArray:
        """Returns a one per attribute, shape (n, levels of all attributes)."""
        total, rows = np.zeros((len(points), self.num_columns)), np.arange(len(points))
        for (stage_index, column), start in zip(self._varied, self.starts.tolist(), strict=True):
            total[rows, start + self._chain.stages[stage_index].levels[points[:, stage_index], column]] = 1.0
        return total


class ResidualProcess:
    """The additive model of one objective with a Gaussian process on top, conditioned on the same labels."""

    def __init__(
        self, base: Surrogate, levels: Levels, points: IntArray, *,
        start: FloatArray | None = None, refit: bool = True,
    ) -> None:  # fmt: skip
        """Fits the process, or takes the logarithms of its parameters from `start` unless `refit`.

        Args:
            base: The additive model, fitted to labels at `points`.
            levels: The attributes of points.
            points: The labelled points, shape (n, stages).
            start: `logs` of an earlier process with the same attributes.
            refit: Whether parameters are fitted.
        """
        self._base, self._levels = base, levels
        chosen = np.arange(len(points))
        if len(points) > MAX_LABELS:  # the latest half, and an even spread of the earlier ones
            before = np.linspace(0, len(points) - MAX_LABELS // 2 - 1, MAX_LABELS - MAX_LABELS // 2)
            chosen = np.concatenate([before.round().astype(int), np.arange(len(points) - MAX_LABELS // 2, len(points))])
        self.chosen = chosen
        """Positions of the labels that it is conditioned on, shape (k,)."""
        self._features, self._hot = base.label_features[chosen], levels.one_hot(points[chosen])
        self._error = base.target[chosen] - self._features @ base.prior_mean
        self._additive = (self._features * base.prior) @ self._features.T
        self.logs = self._fitted(start) if refit or start is None else start
        """Logarithms of the effects' scale, of the variances of process and noise, and of the weights."""
        covariance = self._covariance(self.logs, self._additive, self._hot)[0]
        self._factor = cho_factor(covariance, lower=True, check_finite=False)
        self._solved = cho_solve(self._factor, self._error, check_finite=False)

    @property
    def noise_variance(self) -> float:
        """Variance of the noise, in units of the labels' variance."""
        return float(np.exp(self.logs[2]))

    @property
    def label_errors(self) -> FloatArray:
        """Expected noise of each label that it is conditioned on, shape (k,), in units of the target."""
        errors: FloatArray = self.noise_variance * self._solved
        return errors

    def _covariance(self, logs: FloatArray, additive: FloatArray, hot: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns the covariance of labels, and that part of it which the process is."""
        process = np.exp(logs[1]) * self._correlation(logs, hot, hot)
        covariance = np.exp(logs[0]) * additive + process
        covariance[np.diag_indices_from(covariance)] += np.exp(logs[2])
        return covariance, process

    def _correlation(self, logs: FloatArray, hot: FloatArray, other: FloatArray) -> FloatArray:
        weights = np.exp(logs[3:])
        alike = (hot * weights[self._levels.attribute_of_column]) @ other.T
        correlation: FloatArray = np.exp(alike - weights.sum())
        return correlation

    @property
    def _center(self) -> FloatArray:
        """Medians of the parameters under the hyperprior, as logarithms."""
        number = len(self._levels)
        center: FloatArray = np.log([1.0, _SIGNAL, _NOISE, *[_WEIGHT / max(number, 1) ** 0.5] * number])
        return center

    def _fitted(self, start: FloatArray | None) -> FloatArray:
        """Returns the most probable logarithms of the parameters."""
        number = len(self._levels)
        chosen = np.linspace(0, len(self._error) - 1, min(len(self._error), MAX_FOR_LENGTHS)).round().astype(int)
        objective = self.neg_log_posterior(
            self._error[chosen], self._additive[np.ix_(chosen, chosen)], self._hot[chosen]
        )  # fmt: skip
        first = self._center if start is None or len(start) != 3 + number else start
        bounds = [(-3.0, 3.0), (np.log(1e-6), np.log(1e2)), (np.log(1e-6), np.log(10.0)), *[(-9.0, 4.0)] * number]
        optimum = minimize(objective, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MAX_STEPS})
        logs: FloatArray = optimum.x
        return logs

    def neg_log_posterior(
        self, error: FloatArray, additive: FloatArray, hot: FloatArray
    ) -> Callable[[FloatArray], tuple[float, FloatArray]]:  # fmt: skip
        """Returns the negative log posterior of the parameters' logarithms (up to a constant), and its gradient.

        Args:
            error: Labels minus their prior mean, shape (n,).
            additive: Prior covariance of the trend and the effects at scale one, shape (n, n).
            hot: Levels, one-hot.
        """
        center = self._center
        spread = np.array([_SCALE_SD, _SIGNAL_SD, _NOISE_SD, *[_WEIGHT_SD] * len(self._levels)])

        def value_and_slope(logs: FloatArray) -> tuple[float, FloatArray]:
            covariance, process = self._covariance(logs, additive, hot)
            factor = cho_factor(covariance, lower=True, check_finite=False)
            inverse = cho_solve(factor, np.eye(len(error)), check_finite=False)
            solved = inverse @ error
            away = (logs - center) / spread
            value = 0.5 * error @ solved + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
            outer = inverse - np.outer(solved, solved)
            of_process = outer * process
            total = of_process.sum()
            # Sums over pairs that share an attribute's level, by attribute; the other pairs lose by its weight.
            alike = np.add.reduceat((hot * (of_process @ hot)).sum(axis=0), self._levels.starts)
            slope = np.concatenate([
                [np.exp(logs[0]) * (outer * additive).sum(), total, np.exp(logs[2]) * np.trace(outer)],
                np.exp(logs[3:]) * (alike - total),
            ])  # fmt: skip
            return float(value), 0.5 * slope + away / spread

        return value_and_slope

    @cached_property
    def loo(self) -> tuple[FloatArray, FloatArray]:
        """Means and variances of left-out labels, each of shape (k,), in units of the target."""
        precision = np.diag(cho_solve(self._factor, np.eye(len(self._error)), check_finite=False))
        return self._base.target[self.chosen] - self._solved / precision, 1 / precision

    def marginals(self, features: CentredFeatures, hot: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns posterior means and standard deviations of points, each of shape (m,), in units of the target.

        Args:
            features: Features of the points by the additive model.
            hot: Their levels, one-hot.
        """
        mean, half = self._posterior(features, hot)
        prior = np.exp(self.logs[0]) * features.squares(self._base.prior) + np.exp(self.logs[1])
        return mean, np.sqrt(np.maximum(prior - (half**2).sum(axis=0), 1e-12))

    def draw(
        self, features: CentredFeatures, hot: FloatArray, rng: np.random.Generator, number: int
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Returns means and standard deviations (m,) of the posterior, and draws of all points together (m, number)."""
        mean, half = self._posterior(features, hot)
        prior = np.exp(self.logs[0]) * features.gram(self._base.prior)
        prior += np.exp(self.logs[1]) * self._correlation(self.logs, hot, hot)
        root, deviation = _root_and_deviation(prior - half.T @ half, float(np.diag(prior).mean()))
        drawn: FloatArray = mean[:, None] + root @ rng.normal(size=(len(mean), number))
        return mean, deviation, drawn

    def _posterior(self, features: CentredFeatures, hot: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns the posterior means, and the part of the covariance that labels explain as a root, (k, m)."""
        cross = np.exp(self.logs[0]) * (features @ (self._features * self._base.prior).T).T
        cross += np.exp(self.logs[1]) * self._correlation(self.logs, self._hot, hot)
        mean = features @ self._base.prior_mean + cross.T @ self._solved
        half: FloatArray = solve_triangular(self._factor[0], cross, lower=True, check_finite=False)
        return mean, half


def _root_and_deviation(covariance: FloatArray, scale: float) -> tuple[FloatArray, FloatArray]:
    """Returns the Cholesky root of a covariance (m, m), and the standard deviations (m,).

    A posterior covariance is a difference of large numbers, so rounding can leave it indefinite. As much is added to
    its diagonal as is needed, beginning with a millionth of the prior's variance (`scale`). Raises `LinAlgError` if
    that variance itself is not enough.
    """
    diagonal = np.diag_indices_from(covariance)
    for share in RIDGES:
        ridged = covariance.copy()
        ridged[diagonal] += share * scale
        with suppress(LinAlgError):
            return cholesky(ridged, lower=True, check_finite=False), np.sqrt(np.diag(ridged))
    raise LinAlgError("a posterior covariance is far from definite")
