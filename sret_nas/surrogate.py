"""A Bayesian model of an objective that adds over a network's choices.

    y = trend(costs) + effects of the stages' choices + effects of pairs + lack of fit and label noise

The trend is linear and quadratic in the logarithm of the costs, with the size prior in its mean: with a handful of
labels, "bigger is better" beats any model. Effects are of levels of attributes: shared by all stages that have the
attribute, a stage's own, of two attributes within a stage, and of an attribute with the state of the stage before.
Each kind has its own prior variance, found by marginal likelihood under a weak hyperprior, as is the noise; so a kind
that explains nothing fades out (automatic relevance determination). A residual (random Fourier features of a
Gaussian process over all levels) can be added where the sums do not suffice; what it is good for is for the strategy
to judge, by leave-one-out errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from sret_nas.additive import AdditiveScore
from sret_nas.chain import Chain
from sret_nas.cost import IntArray
from sret_nas.cost_cells import FloatArray

RESIDUAL_FEATURES = 384
MOST_FOR_VARIANCES = 400
"""Labels that variances are fitted to; of more, so many spread over all."""

_SLOPE, _SLOPE_SD, _CURVE_SD, _OFFSET_SD = -0.7, 0.7, 0.3, 1.0
"""The trend's prior, where the objective and log costs have unit variance."""
_SHARE, _SHARE_SD = 0.05, 2.0
"""What a kind of effect explains of the variance, a priori: its median, and the spread of its logarithm."""
_NOISE, _NOISE_SD = 0.02, 1.5


@dataclass(frozen=True)
class _Kind:
    """Effects with one prior variance: columns of the feature matrix."""

    name: str
    columns: slice


class Terms:
    """The features of points: one column per effect, grouped by kind. `matrix` is of shape (n, columns).

    Without `has_pairs`, effects are of single attributes only.
    """

    def __init__(self, chain: Chain, *, has_pairs: bool = True) -> None:
        self._chain = chain
        self._places: dict[str, list[tuple[int, int]]] = {}
        for number, stage in enumerate(chain.stages):
            for column, name in enumerate(stage.attributes):
                if stage.num_levels[column] > 1:
                    self._places.setdefault(name, []).append((number, column))
        self._before = [chain.levels_of_states(number) for number in range(len(chain.stages))]
        self.kinds: list[_Kind] = []
        self.num_columns = 0
        self._shared: dict[str, int] = {}
        self._own: dict[tuple[int, int], int] = {}
        self._within: dict[tuple[int, int, int], int] = {}
        self._across: dict[tuple[int, int, int], int] = {}
        self._shared_across: dict[tuple[str, int], int] = {}
        self._lay_out_single()
        if has_pairs:
            self._lay_out_pairs()

    def _add(self, name: str, width: int) -> int:
        """Reserves columns for a kind, at its end if it is the last one; returns the first."""
        start = self.num_columns
        self.num_columns += width
        if self.kinds and self.kinds[-1].name == name:
            self.kinds[-1] = _Kind(name, slice(self.kinds[-1].columns.start, self.num_columns))
        else:
            self.kinds.append(_Kind(name, slice(start, self.num_columns)))
        return start

    def _lay_out_single(self) -> None:
        stages = self._chain.stages
        for name, places in self._places.items():
            if len(places) > 1:
                self._shared[name] = self._add(f"shared {name}", max(stages[s].num_levels[c] for s, c in places))
        for name, places in self._places.items():
            for s, c in places:
                self._own[s, c] = self._add(f"own {name}", stages[s].num_levels[c])

    def _lay_out_pairs(self) -> None:
        stages = self._chain.stages
        every = [place for places in self._places.values() for place in places]
        for s, stage in enumerate(stages):
            columns = sorted(c for number, c in every if number == s)
            for first, second in combinations(columns, 2):
                width = stage.num_levels[first] * stage.num_levels[second]
                self._within[s, first, second] = self._add("within", width)
        for s, c in sorted(every):
            if s > 0 and len(self._before[s - 1]) > 1:
                for part, width in enumerate(self._widths(s - 1)):
                    self._across[s, c, part] = self._add("across", width * stages[s].num_levels[c])
        for name, places in self._places.items():
            befores = [self._before[s - 1] for s, _ in places if s > 0]
            if len(befores) > 1 and len(befores[0]) > 1 and all(np.array_equal(b, befores[0]) for b in befores):
                for part, width in enumerate(self._widths(places[-1][0] - 1)):
                    self._shared_across[name, part] = self._add("shared across", width * self._most_levels(name))

    def _widths(self, number: int) -> list[int]:
        """How many levels each attribute of the states of a stage has."""
        return [int(column.max()) + 1 for column in self._before[number].T]

    def _most_levels(self, name: str) -> int:
        return max(self._chain.stages[s].num_levels[c] for s, c in self._places[name])

    def matrix(self, points: IntArray) -> FloatArray:
        """The features of points, of shape (n, stages)."""
        total = np.zeros((len(points), self.num_columns))
        rows = np.arange(len(points))
        for number in range(len(self._chain.stages)):
            for start, level in self._columns(number, points[:, number]):
                total[rows, start + level] += 1
            if number > 0:
                stage = self._chain.stages[number - 1]
                before = stage.state_position[points[:, number - 1]]
                for start, part, width, level in self._columns_across(number, points[:, number]):
                    total[rows, start + self._before[number - 1][before, part] * width + level] += 1
        return total

    def _columns(self, number: int, choices: IntArray) -> list[tuple[int, IntArray]]:
        """What the choices of a stage set by themselves: first columns, and levels to add to them."""
        stage = self._chain.stages[number]
        found = []
        for (s, c), start in self._own.items():
            if s == number:
                level = stage.levels[choices, c]
                found.append((start, level))
                name = stage.attributes[c]
                if name in self._shared:
                    found.append((self._shared[name], level))
        for (s, first, second), start in self._within.items():
            if s == number:
                level = stage.levels[choices, first] * stage.num_levels[second] + stage.levels[choices, second]
                found.append((start, level))
        return found

    def _columns_across(self, number: int, choices: IntArray) -> list[tuple[int, int, int, IntArray]]:
        """What they set with each attribute of the state before: first column, attribute, columns per level, levels."""
        stage = self._chain.stages[number]
        found = []
        for (s, c, part), start in self._across.items():
            if s == number:
                level = stage.levels[choices, c]
                found.append((start, part, stage.num_levels[c], level))
                name = stage.attributes[c]
                if (name, part) in self._shared_across:
                    found.append((self._shared_across[name, part], part, self._most_levels(name), level))
        return found

    def score(self, weights: FloatArray) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
        """The stage terms and the pair terms (see `AdditiveScore`) that weights of shape (columns,) give."""
        stages, pairs = [], []
        for number, stage in enumerate(self._chain.stages):
            every = np.arange(len(stage))
            terms = np.zeros(len(stage))
            for start, level in self._columns(number, every):
                terms += weights[start + level]
            stages.append(terms)
            if number > 0:
                before = self._before[number - 1]
                table = np.zeros((len(before), len(stage)))
                for start, part, width, level in self._columns_across(number, every):
                    table += weights[start + before[:, part, None] * width + level]
                pairs.append(table)
        return tuple(stages), tuple(pairs)


class Residual:
    """Random Fourier features of a Gaussian process over all attributes' levels and the logarithm of the costs."""

    def __init__(self, chain: Chain, rng: np.random.Generator, length: float = 1.5) -> None:
        self._chain = chain
        width = sum(sum(stage.num_levels) for stage in chain.stages) + len(chain.cost_names)
        num_attributes = sum(len(stage.attributes) for stage in chain.stages)
        self._frequency = rng.normal(size=(width, RESIDUAL_FEATURES)) / (length * num_attributes**0.5)
        self._phase = rng.uniform(0, 2 * np.pi, RESIDUAL_FEATURES)

    def matrix(self, points: IntArray, log_costs: FloatArray) -> FloatArray:
        """Of shape (n, features), for standardised log costs of shape (n, costs)."""
        angles = self._phase + log_costs @ self._frequency[-log_costs.shape[1] :]
        start = 0
        for number, stage in enumerate(self._chain.stages):
            for column, levels in enumerate(stage.num_levels):
                angles += self._frequency[start + stage.levels[points[:, number], column]]
                start += levels
        features: FloatArray = np.sqrt(2 / RESIDUAL_FEATURES) * np.cos(angles)
        return features


@dataclass(frozen=True)
class Trend:
    """How costs enter: those of `axes` by their standardised logarithm and its square, the others linearly.

    A cost that is not an axis adds over the stages, so that a score stays additive.
    """

    axes: tuple[int, ...]
    center: FloatArray
    scale: FloatArray
    """Of each cost: of its logarithm if it is an axis, else of itself."""

    @classmethod
    def of(cls, costs: FloatArray, axes: tuple[int, ...]) -> Trend:
        """Standardised on the costs of the labelled points, of shape (n, costs)."""
        columns = cls._columns(costs, axes)
        spread = columns.std(axis=0)
        return cls(axes, columns.mean(axis=0), np.where(spread > 1e-9, spread, 1.0))

    @staticmethod
    def _columns(costs: FloatArray, axes: tuple[int, ...]) -> FloatArray:
        logs = np.log(np.maximum(costs, 1.0))
        return np.where(np.isin(np.arange(costs.shape[1]), axes), logs, costs)

    def standardised(self, costs: FloatArray) -> FloatArray:
        return (self._columns(costs, self.axes) - self.center) / self.scale

    def matrix(self, costs: FloatArray) -> FloatArray:
        """Columns: one, every cost, the squares of the axes."""
        table = self.standardised(costs)
        return np.column_stack([np.ones(len(costs)), table, table[:, list(self.axes)] ** 2])

    @property
    def mean(self) -> FloatArray:
        """The prior mean of the columns' weights: the size prior, on the first axis."""
        mean = np.zeros(1 + len(self.center) + len(self.axes))
        if self.axes:
            mean[1 + self.axes[0]] = _SLOPE
        return mean

    @property
    def deviation(self) -> FloatArray:
        """The prior standard deviation of the columns' weights."""
        return np.array([_OFFSET_SD] + [_SLOPE_SD] * len(self.center) + [_CURVE_SD] * len(self.axes))


class Surrogate:
    """The model of one objective, fitted to labelled points.

    `kinds` says what enters beside the trend: nothing (the plain size prior), the additive effects, and the residual.
    `start` are the variances of an earlier fit of the same kinds, to begin from or, if not `is_refit`, to keep.
    """

    def __init__(
        self,
        terms: Terms,
        points: IntArray,
        costs: FloatArray,
        values: FloatArray,
        axes: tuple[int, ...],
        *,
        is_additive: bool = True,
        residual: Residual | None = None,
        start: FloatArray | None = None,
        is_refit: bool = True,
    ) -> None:
        self._terms, self._residual, self._is_additive = terms, residual, is_additive
        self._center = float(values.mean())
        self.scale = float(values.std()) or 1.0
        """The standard deviation of the labels."""
        self._trend = Trend.of(costs, axes)
        self._target = (values - self._center) / self.scale
        self._groups = self._laid_out()
        raw = self._raw(points, costs)
        self._middle = raw.mean(axis=0)
        self._middle[self._groups[0]] = 0.0
        self._norm = np.ones(raw.shape[1])
        for group in self._groups[1:]:
            centred = raw[:, group] - self._middle[group]
            self._norm[group] = max((centred**2).sum(axis=1).mean() ** 0.5, 1e-6)
        self._features = (raw - self._middle) / self._norm
        self._mean = np.zeros(raw.shape[1])
        self._mean[self._groups[0]] = self._trend.mean
        self.variances = self._fitted_variances(start) if is_refit or start is None else start
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
        chosen = np.linspace(0, len(self._target) - 1, min(len(self._target), MOST_FOR_VARIANCES)).round().astype(int)
        features = self._features[chosen]
        error = self._target[chosen] - features @ self._mean
        fixed = self._trend_covariance(features)
        kernels = [features[:, group] @ features[:, group].T for group in self._groups[1:]]
        kernels.append(np.eye(len(chosen)))
        center = np.log(np.array([_SHARE] * (len(kernels) - 1) + [_NOISE]))
        spread = np.array([_SHARE_SD] * (len(kernels) - 1) + [_NOISE_SD])

        def loss(logs: FloatArray) -> tuple[float, FloatArray]:
            variances = np.exp(logs)
            covariance = fixed + sum(v * k for v, k in zip(variances, kernels, strict=True))
            factor = cho_factor(covariance, lower=True, check_finite=False)
            inverse = cho_solve(factor, np.eye(len(chosen)), check_finite=False)
            solved = inverse @ error
            away = (logs - center) / spread
            value = 0.5 * error @ solved + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
            outer = inverse - np.outer(solved, solved)
            slope = np.array([0.5 * v * (outer * k).sum() for v, k in zip(variances, kernels, strict=True)])
            return float(value), slope + away / spread

        first = center if start is None or len(start) != len(center) else np.log(start)
        bounds = [(np.log(1e-8), np.log(1e3))] * (len(kernels) - 1) + [(np.log(1e-5), np.log(10.0))]
        found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 25})
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
    def left_out(self) -> FloatArray:
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
        features = (self._raw(points, costs) - self._middle) / self._norm
        predicted: FloatArray = features @ weights * self.scale + self._center
        return predicted

    def score(self, weights: FloatArray, chain: Chain) -> AdditiveScore:
        """The additive part of what weights of shape (columns,) predict, without the residual, up to a constant."""
        scaled = weights * self.scale / self._norm
        trend_weights = scaled[self._groups[0]]
        width = len(trend_weights)
        if self._is_additive:
            stages, pairs = self._terms.score(scaled[width : width + self._terms.num_columns])
        else:
            stages = tuple(np.zeros(len(stage)) for stage in chain.stages)
            pairs = tuple(
                np.zeros((len(before.states), len(stage)))
                for before, stage in zip(chain.stages, chain.stages[1:], strict=False)
            )
        trend, axes = self._trend, self._trend.axes

        def of_costs(costs: FloatArray) -> FloatArray:
            predicted: FloatArray = trend.matrix(costs) @ trend_weights
            return predicted

        # A cost that is not an axis is linear, so it goes where it adds up: into the stages (and their links).
        linear = np.where(np.isin(np.arange(len(trend.center)), axes), 0.0, trend_weights[1 : 1 + len(trend.center)])
        per_unit = linear / trend.scale
        if per_unit.any():
            stages = tuple(terms + stage.costs @ per_unit for terms, stage in zip(stages, chain.stages, strict=True))
            pairs = tuple(
                table + chain.link_costs[number][:, inverse] @ per_unit
                for number, (table, inverse) in enumerate(
                    zip(pairs, (stage.state_position for stage in chain.stages[1:]), strict=True)
                )
            )

            def of_axes(costs: FloatArray) -> FloatArray:
                rest: FloatArray = of_costs(costs) - costs @ per_unit
                return rest

            return AdditiveScore(stages, pairs, of_axes)
        return AdditiveScore(stages, pairs, of_costs)
