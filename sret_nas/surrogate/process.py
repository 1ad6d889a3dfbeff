"""A Gaussian process that adds what sums of effects miss to the additive model of an objective.

    y = c (trend + effects) + f(levels) + noise

The covariance of f is that of `sret_nas.surrogate.kernel`. Its parameters, the scale c and the noise maximise the
marginal likelihood under a weak hyperprior; the variances of the effects are those of the additive model.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.surrogate.centred_features import CentredFeatures
from sret_nas.surrogate.kernel import Kernel, Levels
from sret_nas.surrogate.label_choice import spread_over
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
_NOISE, _NOISE_SD = 0.003, 2.0
"""Hyperprior of the noise's variance: median, and standard deviation of its log."""
_NUM_OWN = 2
"""Parameters before those of the kernel: scale and noise."""


class ResidualProcess:
    """The additive model of one objective with a Gaussian process on top, conditioned on the same labels."""

    def __init__(
        self, base: Surrogate, kernel: Kernel, points: IntArray, *,
        start: FloatArray | None = None, refit: bool = True,
    ) -> None:  # fmt: skip
        """Fits the process, or takes the logarithms of its parameters from `start` unless `refit`.

        Args:
            base: The additive model, fitted to labels at `points`.
            kernel: The covariance of what sums miss.
            points: The labelled points, shape (n, stages).
            start: `logs` of an earlier process with the same attributes.
            refit: Whether parameters are fitted.
        """
        self._base, self._kernel = base, kernel
        chosen = spread_over(len(points), MAX_LABELS)
        self.chosen = chosen
        """Positions of the labels that it is conditioned on, shape (k,)."""
        self._features, self._rows = base.label_features[chosen], kernel.levels(points[chosen])
        self._error = base.target[chosen] - self._features @ base.prior_mean
        self._additive = (self._features * base.prior) @ self._features.T
        self.logs = self._fitted(start) if refit or start is None else start
        """Logarithms of the effects' scale, of the noise's variance, and of the parameters of the kernel."""
        covariance = self._covariance(self.logs, self._additive, self._rows)[0]
        self._factor = cho_factor(covariance, lower=True, check_finite=False)
        self._solved = cho_solve(self._factor, self._error, check_finite=False)

    @property
    def noise_variance(self) -> float:
        """Variance of the noise, in units of the labels' variance."""
        return float(np.exp(self.logs[1]))

    @property
    def label_errors(self) -> FloatArray:
        """Expected noise of each label that it is conditioned on, shape (k,), in units of the target."""
        errors: FloatArray = self.noise_variance * self._solved
        return errors

    def _covariance(
        self, logs: FloatArray, additive: FloatArray, rows: Levels
    ) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:  # fmt: skip
        """Returns the covariance of labels, and the two parts of the kernel in it."""
        rough, smooth = self._kernel.parts(logs[_NUM_OWN:], rows, rows)
        covariance = np.exp(logs[0]) * additive + rough + smooth
        covariance[np.diag_indices_from(covariance)] += np.exp(logs[1])
        return covariance, (rough, smooth)

    @property
    def _center(self) -> FloatArray:
        """Medians of the parameters under the hyperprior, as logarithms."""
        center: FloatArray = np.concatenate([np.log([1.0, _NOISE]), self._kernel.center])
        return center

    def _fitted(self, start: FloatArray | None) -> FloatArray:
        """Returns the most probable logarithms of the parameters."""
        chosen = np.linspace(0, len(self._error) - 1, min(len(self._error), MAX_FOR_LENGTHS)).round().astype(int)
        objective = self.neg_log_posterior(
            self._error[chosen], self._additive[np.ix_(chosen, chosen)], self._rows.take(chosen)
        )  # fmt: skip
        first = self._center if start is None or len(start) != len(self._center) else start
        bounds = [(-3.0, 3.0), (np.log(1e-6), np.log(10.0)), *self._kernel.bounds]
        optimum = minimize(objective, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MAX_STEPS})
        logs: FloatArray = optimum.x
        return logs

    def neg_log_posterior(
        self, error: FloatArray, additive: FloatArray, rows: Levels
    ) -> Callable[[FloatArray], tuple[float, FloatArray]]:  # fmt: skip
        """Returns the negative log posterior of the parameters' logarithms (up to a constant), and its gradient.

        Args:
            error: Labels minus their prior mean, shape (n,).
            additive: Prior covariance of the trend and the effects at scale one, shape (n, n).
            rows: Levels of the n points.
        """
        center = self._center
        spread = np.concatenate([[_SCALE_SD, _NOISE_SD], self._kernel.spread])

        def value_and_gradient(logs: FloatArray) -> tuple[float, FloatArray]:
            """Computes both from one factor of the covariance K: the gradient by p is tr((K^-1 - s s^T) dK/dp) / 2."""
            covariance, (rough, smooth) = self._covariance(logs, additive, rows)
            factor = cho_factor(covariance, lower=True, check_finite=False)
            inverse = cho_solve(factor, np.eye(len(error)), check_finite=False)
            solved = inverse @ error  # s
            away = (logs - center) / spread
            value = 0.5 * error @ solved + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
            outer = inverse - np.outer(solved, solved)
            gradient = np.concatenate([
                [np.exp(logs[0]) * (outer * additive).sum(), np.exp(logs[1]) * np.trace(outer)],
                self._kernel.gradient(logs[_NUM_OWN:], rows, outer * rough, outer * smooth),
            ])  # fmt: skip
            return float(value), 0.5 * gradient + away / spread

        return value_and_gradient

    @cached_property
    def loo(self) -> tuple[FloatArray, FloatArray]:
        """Means and variances of left-out labels, each of shape (k,), in units of the target."""
        precision = np.diag(cho_solve(self._factor, np.eye(len(self._error)), check_finite=False))
        return self._base.target[self.chosen] - self._solved / precision, 1 / precision

    def marginals(self, features: CentredFeatures, rows: Levels) -> tuple[FloatArray, FloatArray]:
        """Returns posterior means and standard deviations of points, each of shape (m,), in units of the target.

        Args:
            features: Features of the points by the additive model.
            rows: Their levels.
        """
        mean, half = self._posterior(features, rows)
        prior = np.exp(self.logs[0]) * features.squares(self._base.prior)
        prior += self._kernel.variance(self.logs[_NUM_OWN:])
        return mean, np.sqrt(np.maximum(prior - (half**2).sum(axis=0), 1e-12))

    def draw(
        self, features: CentredFeatures, rows: Levels, rng: np.random.Generator, number: int
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Returns means and standard deviations (m,) of the posterior, and draws of all points together (m, number)."""
        mean, half = self._posterior(features, rows)
        prior = np.exp(self.logs[0]) * features.gram(self._base.prior)
        prior += sum(self._kernel.parts(self.logs[_NUM_OWN:], rows, rows))
        root, deviation = _root_and_deviation(prior - half.T @ half, float(np.diag(prior).mean()))
        drawn: FloatArray = mean[:, None] + root @ rng.normal(size=(len(mean), number))
        return mean, deviation, drawn

    def _posterior(self, features: CentredFeatures, rows: Levels) -> tuple[FloatArray, FloatArray]:
        """Returns the posterior means, and the part of the covariance that labels explain as a root, (k, m)."""
        cross = np.exp(self.logs[0]) * (features @ (self._features * self._base.prior).T).T
        cross += sum(self._kernel.parts(self.logs[_NUM_OWN:], self._rows, rows))
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
