"""What the Bayesian model of an objective is linear in: features of networks, and what is believed of their weights.

Costs enter by a trend, linear and quadratic in their logarithm, with the size prior in the mean of its weights: with a
handful of labels, "bigger is better" beats any model. Choices enter by effects of levels of attributes: shared by all
stages that have the attribute, a stage's own, of two attributes within a stage, and of an attribute with the state of
the stage before; and by slopes over levels (`sret_nas.surrogate.ordinal_effects`). What sums miss can enter by a
residual: random Fourier features of a Gaussian process over all levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain
from sret_nas.surrogate.ordinal_effects import OrdinalEffects

RESIDUAL_FEATURES = 384

_SLOPE, _SLOPE_SD, _CURVE_SD, _OFFSET_SD = -0.7, 0.7, 0.3, 1.0
"""The trend's prior, where the objective and log costs have unit variance."""


@dataclass(frozen=True)
class _EffectGroup:
    """Effects with one prior variance: columns of the feature matrix."""

    name: str
    columns: slice


class EffectTerms:
    """The features of points: one column per effect, grouped by kind. `matrix` is of shape (n, columns).

    Without `has_pairs`, effects are of single attributes only; with `has_slopes` there are slopes beside them.
    """

    def __init__(self, chain: Chain, *, has_pairs: bool = True, has_slopes: bool = False) -> None:
        self._chain = chain
        self._places: dict[str, list[tuple[int, int]]] = {}
        for number, stage in enumerate(chain.stages):
            for column, name in enumerate(stage.attributes):
                if stage.num_levels[column] > 1:
                    self._places.setdefault(name, []).append((number, column))
        self._before = [chain.levels_of_states(number) for number in range(len(chain.stages))]
        self.kinds: list[_EffectGroup] = []
        self.num_columns = 0
        self._shared: dict[str, int] = {}
        self._own: dict[tuple[int, int], int] = {}
        self._within: dict[tuple[int, int, int], int] = {}
        self._across: dict[tuple[int, int, int], int] = {}
        self._shared_across: dict[tuple[str, int], int] = {}
        self._lay_out_single()
        self._slopes = OrdinalEffects(chain, self._places if has_slopes else {}, self._add, has_pairs=has_pairs)
        if has_pairs:
            self._lay_out_pairs()

    def _add(self, name: str, width: int) -> int:
        """Reserves columns for a kind, at its end if it is the last one; returns the first."""
        start = self.num_columns
        self.num_columns += width
        if self.kinds and self.kinds[-1].name == name:
            self.kinds[-1] = _EffectGroup(name, slice(self.kinds[-1].columns.start, self.num_columns))
        else:
            self.kinds.append(_EffectGroup(name, slice(start, self.num_columns)))
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
            for column, height in self._slopes.columns(number, points[:, number]):
                total[:, column] += height
            if number > 0:
                stage = self._chain.stages[number - 1]
                before = stage.state_position[points[:, number - 1]]
                for start, part, width, level in self._columns_across(number, points[:, number]):
                    total[rows, start + self._before[number - 1][before, part] * width + level] += 1
                for column, state_height, height in self._slopes.columns_across(number, points[:, number]):
                    total[:, column] += state_height[before] * height
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
            for column, height in self._slopes.columns(number, every):
                terms += weights[column] * height
            stages.append(terms)
            if number > 0:
                before = self._before[number - 1]
                table = np.zeros((len(before), len(stage)))
                for start, part, width, level in self._columns_across(number, every):
                    table += weights[start + before[:, part, None] * width + level]
                for column, state_height, height in self._slopes.columns_across(number, every):
                    table += weights[column] * state_height[:, None] * height
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

    def per_unit(self, weights: FloatArray) -> FloatArray:
        """What a unit of each cost adds if weights of shape (columns,) count: of an axis nothing, it is not linear."""
        number = len(self.center)
        per_unit: FloatArray = np.where(np.isin(np.arange(number), self.axes), 0.0, weights[1 : 1 + number])
        return per_unit / self.scale

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
