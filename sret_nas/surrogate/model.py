"""A Bayesian linear model of an objective that is additive over a network's choices.

    y = trend(costs) + effects of the stages' choices + effects of pairs + lack of fit and label noise

The features are those of `sret_nas.surrogate.features`. Each group of effects has its own prior variance. The variances
and the noise maximise the marginal likelihood under a weak hyperprior, so a group that explains nothing fades out
(automatic relevance determination). `sret_nas.surrogate.process` adds what sums cannot explain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.sparse import csr_array

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.optimize.dynamic_program import AdditiveScore
from sret_nas.space.chain import Chain
from sret_nas.surrogate.centred_features import CentredFeatures
from sret_nas.surrogate.features import EffectTerms, Trend

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
            start: Variances of an earlier fit with the same groups.
            refit_variances: Whether variances are fitted, beginning at `start`, instead of taken from `start`.
        """
        self._terms, self._is_additive = terms, is_additive
        self.scale = float(values.std()) or 1.0
        """Standard deviation of the labels, 1 if they are all equal."""
        self._trend = Trend.of(costs, axes)
        self.center = float(values.mean())
        self.target = (values - self.center) / self.scale
        """The labels, standardised, of shape (n,)."""
        self._groups = self._column_groups()
        raw = np.concatenate([self._trend.matrix(costs), *([terms.matrix(points)] if is_additive else [])], axis=1)
        self._feature_mean = raw.mean(axis=0)
        self._feature_mean[self._groups[0]] = 0.0
        self._norm = np.ones(raw.shape[1])
        for group in self._groups[1:]:
            centred = raw[:, group] - self._feature_mean[group]
            self._norm[group] = max((centred**2).sum(axis=1).mean() ** 0.5, 1e-6)
        self.label_features = (raw - self._feature_mean) / self._norm
        self.prior_mean = np.zeros(raw.shape[1])
        """Prior mean of each weight, of shape (columns,)."""
        self.prior_mean[self._groups[0]] = self._trend.mean
        self.variances = self._fit_variances(start) if refit_variances or start is None else start
        self._solve()

    def _column_groups(self) -> list[slice]:
        """Returns the columns of the trend, and of each group of effects, in this order."""
        width = len(self._trend.mean)
        groups = [slice(0, width)]
        if self._is_additive:
            groups += [slice(width + group.columns.start, width + group.columns.stop) for group in self._terms.groups]
            width += self._terms.num_columns
        return groups

    def _fit_variances(self, start: FloatArray | None) -> FloatArray:
        """Returns the most probable variances of all groups but the trend, and of the noise, given the labels."""
        chosen = np.linspace(0, len(self.target) - 1, min(len(self.target), MAX_FOR_VARIANCES)).round().astype(int)
        features = self.label_features[chosen]
        kernels = [features[:, group] @ features[:, group].T for group in self._groups[1:]]
        evidence = _Evidence(
            self.target[chosen] - features @ self.prior_mean,
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
    def prior(self) -> FloatArray:
        """Prior variance of each weight, of shape (columns,)."""
        prior = np.empty(self.label_features.shape[1])
        prior[self._groups[0]] = self._trend.deviation**2
        for group, variance in zip(self._groups[1:], self.variances[:-1], strict=True):
            prior[group] = variance
        return prior

    def _solve(self) -> None:
        """Computes the posterior mean of the weights by the n x n covariance of the labels."""
        covariance = (self.label_features * self.prior) @ self.label_features.T
        covariance[np.diag_indices_from(covariance)] += self.variances[-1]
        self._factor = cho_factor(covariance, lower=True, check_finite=False)
        self._solved = cho_solve(self._factor, self.target - self.label_features @ self.prior_mean, check_finite=False)
        self._weights: FloatArray = self.prior_mean + self.prior * (self.label_features.T @ self._solved)

    @cached_property
    def loo(self) -> tuple[FloatArray, FloatArray]:
        """Means and variances of left-out labels at the fitted variances, each of shape (n,), in units of the target.

        They follow in closed form from the inverse covariance (Rasmussen and Williams, "Gaussian Processes for Machine
        Learning", 2006, equation 5.12).
        """
        precision = np.diag(cho_solve(self._factor, np.eye(len(self.target)), check_finite=False))
        return self.target - self._solved / precision, 1 / precision

    def label_errors(self, noise_variance: float) -> FloatArray:
        """Returns the expected noise of each label, shape (n,), in units of the target.

        Args:
            noise_variance: Variance of the noise; the rest of the fitted variance is what the model misses.
        """
        errors: FloatArray = min(noise_variance, float(self.variances[-1])) * self._solved
        return errors

    @property
    def loo_predictions(self) -> FloatArray:
        """Leave-one-out predictions of the labels, of shape (n,), in the objective's units."""
        return self.loo[0] * self.scale + self.center

    @property
    def noise(self) -> float:
        """Standard deviation of what the model cannot explain, in the objective's units."""
        return float(self.variances[-1] ** 0.5 * self.scale)

    def draw_weights(self, rng: np.random.Generator, num_draws: int) -> FloatArray:
        """Draws weights from the posterior by Matheron's rule, of shape (columns, num_draws)."""
        prior = rng.normal(size=(len(self.prior), num_draws)) * self.prior[:, None] ** 0.5 + self.prior_mean[:, None]
        noise = rng.normal(size=(len(self.target), num_draws)) * self.variances[-1] ** 0.5
        error = self.target[:, None] - self.label_features @ prior - noise
        solved = cho_solve(self._factor, error, check_finite=False)
        weights: FloatArray = prior + self.prior[:, None] * (self.label_features.T @ solved)
        return weights

    @property
    def mean_weights(self) -> FloatArray:
        """Posterior mean of the weights, of shape (columns, 1)."""
        return self._weights[:, None]

    def predict(self, points: IntArray, costs: FloatArray, weights: FloatArray) -> FloatArray:
        """Predicts points with weights of shape (columns, k); of shape (n, k), in the objective's units."""
        predicted: FloatArray = self.features(costs, self._terms.sparse(points)) @ weights * self.scale + self.center
        return predicted

    def features(self, costs: FloatArray, effects: csr_array) -> CentredFeatures:
        """Returns the features that weights belong to, of shape (n, columns), from costs and `EffectTerms.sparse`."""
        width = len(self._trend.mean)
        return CentredFeatures(
            self._trend.matrix(costs), effects if self._is_additive else None,
            self._feature_mean[width:], self._norm[width:],
        )  # fmt: skip

    def score(self, weights: FloatArray, chain: Chain) -> AdditiveScore:
        """Returns what weights of shape (columns,) predict as a score, up to a constant."""
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
