"""A Bayesian model of an objective that adds over a network's choices.

    y = trend(costs) + effects of the stages' choices + effects of pairs + lack of fit and label noise

The features are those of `sret_nas.surrogate.features`. Each kind of effect has its own prior variance, found by
marginal likelihood under a weak hyperprior, as is the noise; so a kind that explains nothing fades out (automatic
relevance determination). A residual can be added where the sums do not suffice; what it is good for is for the strategy
to judge, by leave-one-out errors.
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
"""Labels that variances are fitted to; of more, so many spread over all."""

_SHARE, _SHARE_SD = 0.05, 2.0
"""What a kind of effect explains of the variance, a priori: its median, and the spread of its logarithm."""
_NOISE, _NOISE_SD = 0.02, 1.5


@dataclass(frozen=True)
class _Evidence:
    """How probable labels are, of shape (n,), less their prior mean, by the variances of what they are a sum of.

    `kernels` are covariances of shape (n, n) at a variance of one, the noise's last; `fixed` that of the trend.
    """

    error: FloatArray
    fixed: FloatArray
    kernels: list[FloatArray]

    @property
    def center(self) -> FloatArray:
        """The hyperprior's mean of the logarithms of the variances."""
        shares: FloatArray = np.array([_SHARE] * (len(self.kernels) - 1) + [_NOISE])
        return np.log(shares)

    @property
    def spread(self) -> FloatArray:
        """Its standard deviations."""
        return np.array([_SHARE_SD] * (len(self.kernels) - 1) + [_NOISE_SD])

    def loss(self, logs: FloatArray) -> tuple[float, FloatArray]:
        """Less the logarithm of the posterior of these logarithms of variances, up to a constant, and its slope."""
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
    """The model of one objective, fitted to labelled points.

    Beside the trend enter the effects, unless not `is_additive` (the plain size prior), and a residual if one is given.
    `start` are the variances of an earlier fit of the same kinds, to begin from or, if not `refit_variances`, to keep.
    """

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
        self._terms, self._residual, self._is_additive = terms, residual, is_additive
        self._center = float(values.mean())
        self.scale = float(values.std()) or 1.0
        """The standard deviation of the labels."""
        self._trend = Trend.of(costs, axes)
        self._target = (values - self._center) / self.scale
        self._groups = self._laid_out()
        raw = self._raw(points, costs)
        self._feature_mean = raw.mean(axis=0)
        self._feature_mean[self._groups[0]] = 0.0
        self._norm = np.ones(raw.shape[1])
        for group in self._groups[1:]:
            centred = raw[:, group] - self._feature_mean[group]
            self._norm[group] = max((centred**2).sum(axis=1).mean() ** 0.5, 1e-6)
        self._features = (raw - self._feature_mean) / self._norm
        self._mean = np.zeros(raw.shape[1])
        self._mean[self._groups[0]] = self._trend.mean
        self.variances = self._fitted_variances(start) if refit_variances or start is None else start
        self._solve()

    def _laid_out(self) -> list[slice]:
        """Columns of the trend, then of each kind of effect, then of the residual."""
        width = len(self._trend.mean)
        groups = [slice(0, width)]
        if self._is_additive:
            groups += [slice(width + kind.columns.start, width + kind.columns.stop) for kind in self._terms.kinds]
            width += self._terms.num_columns
        if self._residual is not None:
            groups.append(slice(width, width + RESIDUAL_FEATURES))
        return groups

    def _raw(self, points: IntArray, costs: FloatArray) -> FloatArray:
        parts = [self._trend.matrix(costs)]
        if self._is_additive:
            parts.append(self._terms.matrix(points))
        if self._residual is not None:
            parts.append(self._residual.matrix(points, self._trend.standardised(costs)))
        return np.concatenate(parts, axis=1)

    def _fitted_variances(self, start: FloatArray | None) -> FloatArray:
        """The variances of all groups but the trend, and the noise's: the most probable, given the labels."""
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
        found = minimize(evidence.loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 25})
        variances: FloatArray = np.exp(found.x)
        return variances

    def _trend_covariance(self, features: FloatArray) -> FloatArray:
        scaled = features[:, self._groups[0]] * self._trend.deviation
        covariance: FloatArray = scaled @ scaled.T
        return covariance

    @cached_property
    def _prior(self) -> FloatArray:
        """The prior variance of every weight."""
        prior = np.empty(self._features.shape[1])
        prior[self._groups[0]] = self._trend.deviation**2
        for group, variance in zip(self._groups[1:], self.variances[:-1], strict=True):
            prior[group] = variance
        return prior

    def _solve(self) -> None:
        covariance = (self._features * self._prior) @ self._features.T
        covariance[np.diag_indices_from(covariance)] += self.variances[-1]
        self._factor = cho_factor(covariance, lower=True, check_finite=False)
        self._solved = cho_solve(self._factor, self._target - self._features @ self._mean, check_finite=False)
        self._weights: FloatArray = self._mean + self._prior * (self._features.T @ self._solved)

    @cached_property
    def loo_predictions(self) -> FloatArray:
        """What the model predicts of each labelled value from all others, of shape (n,)."""
        inverse = cho_solve(self._factor, np.eye(len(self._target)), check_finite=False)
        predicted: FloatArray = self._target - self._solved / np.diag(inverse)
        return predicted * self.scale + self._center

    @property
    def noise(self) -> float:
        """The standard deviation of what the model cannot explain, in the objective's units."""
        return float(self.variances[-1] ** 0.5 * self.scale)

    def draw_weights(self, rng: np.random.Generator, number: int) -> FloatArray:
        """Weights drawn from the posterior, of shape (columns, number), by Matheron's rule."""
        prior = rng.normal(size=(len(self._prior), number)) * self._prior[:, None] ** 0.5 + self._mean[:, None]
        noise = rng.normal(size=(len(self._target), number)) * self.variances[-1] ** 0.5
        error = self._target[:, None] - self._features @ prior - noise
        solved = cho_solve(self._factor, error, check_finite=False)
        weights: FloatArray = prior + self._prior[:, None] * (self._features.T @ solved)
        return weights

    @property
    def mean_weights(self) -> FloatArray:
        """The posterior mean of the weights, of shape (columns, 1)."""
        return self._weights[:, None]

    def predict(self, points: IntArray, costs: FloatArray, weights: FloatArray) -> FloatArray:
        """What weights of shape (columns, k) predict of points: shape (n, k), in the objective's units."""
        features = (self._raw(points, costs) - self._feature_mean) / self._norm
        predicted: FloatArray = features @ weights * self.scale + self._center
        return predicted

    def score(self, weights: FloatArray, chain: Chain) -> AdditiveScore:
        """The additive part of what weights of shape (columns,) predict, without the residual, up to a constant."""
        trend, scaled = self._trend, weights * self.scale / self._norm
        trend_weights = scaled[self._groups[0]]
        stages, pairs = self._effects(scaled[len(trend_weights) :], chain)
        per_unit = trend.per_unit(trend_weights)
        if per_unit.any():  # then it goes where it adds up: into the stages and their links
            stages = tuple(terms + stage.costs @ per_unit for terms, stage in zip(stages, chain.stages, strict=True))
            pairs = tuple(
                table + links[:, stage.state_position] @ per_unit
                for table, links, stage in zip(pairs, chain.link_costs, chain.stages[1:], strict=True)
            )

        def of_axes(costs: FloatArray) -> FloatArray:
            rest: FloatArray = trend.matrix(costs) @ trend_weights - costs @ per_unit
            return rest

        return AdditiveScore(stages, pairs, of_axes)

    def _effects(self, weights: FloatArray, chain: Chain) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
        """The stage terms and the pair terms that the weights after the trend's give."""
        if self._is_additive:
            return self._terms.score(weights[: self._terms.num_columns])
        neighbours = zip(chain.stages, chain.stages[1:], strict=False)
        return (
            tuple(np.zeros(len(stage)) for stage in chain.stages),
            tuple(np.zeros((len(before.states), len(stage))) for before, stage in neighbours),
        )
