"""A Bayesian linear model of an objective that is additive over a network's choices.

    y = trend(costs) + effects of the stages' choices + effects of pairs + lack of fit and label noise

The features are those of `sret_nas.surrogate.features`. Each group of effects has its own prior variance. The variances
and the noise maximise the marginal likelihood under a weak hyperprior, so a group that explains nothing fades out
(automatic relevance determination). A residual can be added for what sums cannot explain; the strategy decides by
leave-one-out errors whether to use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.optimize.dynamic_program import AdditiveScore
from sret_nas.space.chain import Chain
from sret_nas.surrogate.features import RESIDUAL_FEATURES, EffectTerms, Residual, Trend

MAX_FOR_VARIANCES = 400
"""Most labels that variances are fitted to; of more, evenly spaced ones are used."""

_SHARE, _SHARE_SD = 0.05, 2.0
"""Hyperprior of the share of the variance that a group explains: median, and standard deviation of its log."""
_NOISE, _NOISE_SD = 0.02, 1.5
"""The same for the noise."""


@dataclass(frozen=True)
class _Evidence:
    """The posterior density of the variances, given n labels.

    Attributes:
        error: Labels minus their prior mean, of shape (n,).
        fixed: Covariance of the trend, of shape (n, n).
        kernels: Covariance of each group at variance one, the noise's last; each of shape (n, n).
    """

    error: FloatArray
    fixed: FloatArray
    kernels: list[FloatArray]

    @property
    def center(self) -> FloatArray:
        """Mean of the log variances under the hyperprior."""
        shares: FloatArray = np.array([_SHARE] * (len(self.kernels) - 1) + [_NOISE])
        return np.log(shares)

    @property
    def spread(self) -> FloatArray:
        """Standard deviations of the log variances under the hyperprior."""
        return np.array([_SHARE_SD] * (len(self.kernels) - 1) + [_NOISE_SD])

    def neg_log_posterior(self, logs: FloatArray) -> tuple[float, FloatArray]:
        """Returns the negative log posterior of the log variances (up to a constant), and its gradient."""
        variances = np.exp(logs)
        covariance = self.fixed + sum(v * k for v, k in zip(variances, self.kernels, strict=True))
        factor = cho_factor(covariance, lower=True, check_finite=False)
        inverse = cho_solve(factor, np.eye(len(self.error)), check_finite=False)
        solved = inverse @ self.error
        away = (logs - self.center) / self.spread
        value = 0.5 * self.error @ solved + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
        outer = inverse - np.outer(solved, solved)
        slope = np.array([0.5 * v * (outer * k).sum() for v, k in zip(variances, self.kernels, strict=True)])
        return float(value), slope + away / self.spread


class Surrogate:
    """The model of one objective, fitted to labelled points."""

    def __init__(
        self,
        terms: EffectTerms,
        points: IntArray,
        costs: FloatArray,
        values: FloatArray,
        axes: tuple[int, ...],
        *,
        is_additive: bool = True,
        residual: Residual | None = None,
        start: FloatArray | None = None,
        refit_variances: bool = True,
    ) -> None:
        """Fits variances and weights.

        Args:
            terms: The features of points.
            points: The n labelled points, of shape (n, stages).
            costs: Their costs, of shape (n, costs).
            values: Their labels, of shape (n,).
            axes: Positions of the costs that enter the trend by their logs (see `Trend`).
            is_additive: Whether the effects of choices enter; without them only the trend remains.
            residual: A residual to add, if any.
            start: Variances of an earlier fit with the same groups.
            refit_variances: Whether variances are fitted, beginning at `start`, instead of taken from `start`.
        """
        self._terms, self._residual, self._is_additive = terms, residual, is_additive
        self._center = float(values.mean())
        self.scale = float(values.std()) or 1.0
        """Standard deviation of the labels, 1 if they are all equal."""
        self._trend = Trend.of(costs, axes)
        self._target = (values - self._center) / self.scale
        self._groups = self._column_groups()
        raw = self._raw_features(points, costs)
        self._feature_mean = raw.mean(axis=0)
        self._feature_mean[self._groups[0]] = 0.0
        self._norm = np.ones(raw.shape[1])
        for group in self._groups[1:]:
            centred = raw[:, group] - self._feature_mean[group]
            self._norm[group] = max((centred**2).sum(axis=1).mean() ** 0.5, 1e-6)
        self._features = (raw - self._feature_mean) / self._norm
        self._mean = np.zeros(raw.shape[1])
        self._mean[self._groups[0]] = self._trend.mean
        self.variances = self._fit_variances(start) if refit_variances or start is None else start
        self._solve()

    def _column_groups(self) -> list[slice]:
        """Returns the columns of the trend, of each group of effects, and of the residual, in this order."""
        width = len(self._trend.mean)
        groups = [slice(0, width)]
        if self._is_additive:
            groups += [slice(width + group.columns.start, width + group.columns.stop) for group in self._terms.groups]
            width += self._terms.num_columns
        if self._residual is not None:
            groups.append(slice(width, width + RESIDUAL_FEATURES))
        return groups

    def _raw_features(self, points: IntArray, costs: FloatArray) -> FloatArray:
        """Returns the features before centring and scaling, of shape (n, columns)."""
        parts = [self._trend.matrix(costs)]
        if self._is_additive:
            parts.append(self._terms.matrix(points))
        if self._residual is not None:
            parts.append(self._residual.matrix(points, self._trend.standardised(costs)))
        return np.concatenate(parts, axis=1)

    def _fit_variances(self, start: FloatArray | None) -> FloatArray:
        """Returns the most probable variances of all groups but the trend, and of the noise, given the labels."""
        chosen = np.linspace(0, len(self._target) - 1, min(len(self._target), MAX_FOR_VARIANCES)).round().astype(int)
        features = self._features[chosen]
        kernels = [features[:, group] @ features[:, group].T for group in self._groups[1:]]
        evidence = _Evidence(
            self._target[chosen] - features @ self._mean,
            self._trend_covariance(features),
            [*kernels, np.eye(len(chosen))],
        )
        first = evidence.center if start is None or len(start) != len(evidence.center) else np.log(start)
        bounds = [(np.log(1e-8), np.log(1e3))] * len(kernels) + [(np.log(1e-5), np.log(10.0))]
        optimum = minimize(
            evidence.neg_log_posterior, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 25}
        )
        variances: FloatArray = np.exp(optimum.x)
        return variances

    def _trend_covariance(self, features: FloatArray) -> FloatArray:
        """Returns the prior covariance of the trend, of shape (n, n)."""
        scaled = features[:, self._groups[0]] * self._trend.deviation
        covariance: FloatArray = scaled @ scaled.T
        return covariance

    @cached_property
    def _prior(self) -> FloatArray:
        """Prior variance of each weight, of shape (columns,)."""
        prior = np.empty(self._features.shape[1])
        prior[self._groups[0]] = self._trend.deviation**2
        for group, variance in zip(self._groups[1:], self.variances[:-1], strict=True):
            prior[group] = variance
        return prior

    def _solve(self) -> None:
        """Computes the posterior mean of the weights by the n x n covariance of the labels."""
        covariance = (self._features * self._prior) @ self._features.T
        covariance[np.diag_indices_from(covariance)] += self.variances[-1]
        self._factor = cho_factor(covariance, lower=True, check_finite=False)
        self._solved = cho_solve(self._factor, self._target - self._features @ self._mean, check_finite=False)
        self._weights: FloatArray = self._mean + self._prior * (self._features.T @ self._solved)

    @cached_property
    def loo_predictions(self) -> FloatArray:
        """Leave-one-out predictions of the labels at the fitted variances, of shape (n,).

        They follow in closed form from the inverse covariance (Rasmussen and Williams, "Gaussian Processes for Machine
        Learning", 2006, equation 5.12).
        """
        inverse = cho_solve(self._factor, np.eye(len(self._target)), check_finite=False)
        predicted: FloatArray = self._target - self._solved / np.diag(inverse)
        return predicted * self.scale + self._center

    @property
    def noise(self) -> float:
        """Standard deviation of what the model cannot explain, in the objective's units."""
        return float(self.variances[-1] ** 0.5 * self.scale)

    def draw_weights(self, rng: np.random.Generator, num_draws: int) -> FloatArray:
        """Draws weights from the posterior by Matheron's rule, of shape (columns, num_draws)."""
        prior = rng.normal(size=(len(self._prior), num_draws)) * self._prior[:, None] ** 0.5 + self._mean[:, None]
        noise = rng.normal(size=(len(self._target), num_draws)) * self.variances[-1] ** 0.5
        error = self._target[:, None] - self._features @ prior - noise
        solved = cho_solve(self._factor, error, check_finite=False)
        weights: FloatArray = prior + self._prior[:, None] * (self._features.T @ solved)
        return weights

    @property
    def mean_weights(self) -> FloatArray:
        """Posterior mean of the weights, of shape (columns, 1)."""
        return self._weights[:, None]

    def predict(self, points: IntArray, costs: FloatArray, weights: FloatArray) -> FloatArray:
        """Predicts points with weights of shape (columns, k); of shape (n, k), in the objective's units."""
        features = (self._raw_features(points, costs) - self._feature_mean) / self._norm
        predicted: FloatArray = features @ weights * self.scale + self._center
        return predicted

    def score(self, weights: FloatArray, chain: Chain) -> AdditiveScore:
        """Returns what weights of shape (columns,) predict as a score, without the residual and up to a constant."""
        trend, scaled = self._trend, weights * self.scale / self._norm
        trend_weights = scaled[self._groups[0]]
        stages, pairs = self._effects(scaled[len(trend_weights) :], chain)
        per_unit = trend.per_unit(trend_weights)
        if per_unit.any():  # linear costs are additive, so they go into the terms of stages and links
            stages = tuple(terms + stage.costs @ per_unit for terms, stage in zip(stages, chain.stages, strict=True))
            pairs = tuple(
                table + links[:, stage.state_position] @ per_unit
                for table, links, stage in zip(pairs, chain.link_costs, chain.stages[1:], strict=True)
            )

        def of_axes(costs: FloatArray) -> FloatArray:
            """Returns the trend without its linear costs."""
            rest: FloatArray = trend.matrix(costs) @ trend_weights - costs @ per_unit
            return rest

        return AdditiveScore(stages, pairs, of_axes)

    def _effects(self, weights: FloatArray, chain: Chain) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
        """Returns the stage terms and the pair terms of the weights after the trend's."""
        if self._is_additive:
            return self._terms.score(weights[: self._terms.num_columns])
        neighbours = zip(chain.stages, chain.stages[1:], strict=False)
        return (
            tuple(np.zeros(len(stage)) for stage in chain.stages),
            tuple(np.zeros((len(before.states), len(stage))) for before, stage in neighbours),
        )
