"""Features of the Bayesian linear model of an objective, and the prior of the trend.

Costs enter by a trend that is linear and quadratic in their logs. The prior mean of its weights is the size prior: with
a handful of labels, "bigger is better" beats any fitted model. Choices enter by effects of the levels of attributes:

- shared by all stages that have the attribute,
- of these stages, changing smoothly with depth (`sret_nas.surrogate.depth_effects`),
- of one stage,
- of two attributes within a stage,
- of an attribute with the state of the stage before,
- slopes over levels (`sret_nas.surrogate.ordinal_effects`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain
from sret_nas.surrogate.depth_effects import DepthEffects
from sret_nas.surrogate.ordinal_effects import OrdinalEffects

_SLOPE, _SLOPE_SD, _CURVE_SD, _OFFSET_SD = -0.7, 0.7, 0.3, 1.0
"""Prior of the trend for an objective and log costs of unit variance: slope of the size prior, standard deviations."""


@dataclass(frozen=True)
class EffectGroup:
    """Columns of the feature matrix whose effects share one prior variance."""

    name: str
    columns: slice


@dataclass(frozen=True, eq=False)
class _StageEntries:
    """The entries that a stage adds to a row.

    Attributes:
        columns: Columns that a choice sets alone, shape (choices, entries).
        values: The entries in them.
        columns_across: Columns that a choice sets together with the first state before, shape (choices, entries).
        values_across: The choice's factor of these entries.
        shifts: What another state before adds to those columns, shape (states, entries).
        factors: The state's factor of these entries.
    """

    columns: IntArray
    values: FloatArray
    columns_across: IntArray
    values_across: FloatArray
    shifts: IntArray
    factors: FloatArray


def _stacked(columns: list[npt.NDArray[Any]], length: int, kind: type[Any]) -> npt.NDArray[Any]:
    """Returns columns of shape (length,) side by side, even if there are none."""
    return np.stack(columns, axis=1).astype(kind) if columns else np.zeros((length, 0), dtype=kind)


class EffectTerms:
    """The effects of choices as columns of a feature matrix, in groups of one prior variance each."""

    def __init__(
        self, chain: Chain, *, has_pairs: bool = True, has_slopes: bool = False, has_depth: bool = True
    ) -> None:
        """Lays out the columns.

        Args:
            chain: The chain of the points.
            has_pairs: Whether there are effects of two attributes, beside those of single ones.
            has_slopes: Whether there are slopes over levels, too.
            has_depth: Whether effects may change smoothly with depth, in chains of many stages.
        """
        self._chain = chain
        self._stages_with: dict[str, list[tuple[int, int]]] = {}
        for stage_index, stage in enumerate(chain.stages):
            for column, name in enumerate(stage.attributes):
                if stage.num_levels[column] > 1:
                    self._stages_with.setdefault(name, []).append((stage_index, column))
        self._state_levels = [chain.levels_of_states(stage_index) for stage_index in range(len(chain.stages))]
        self.groups: list[EffectGroup] = []
        self.num_columns = 0
        self._shared: dict[str, int] = {}
        self._own: dict[tuple[int, int], int] = {}
        self._within: dict[tuple[int, int, int], int] = {}
        self._across: dict[tuple[int, int, int], int] = {}
        self._shared_across: dict[tuple[str, int], int] = {}
        self._add_single_effects(has_depth=has_depth)
        self._ordinal = OrdinalEffects(chain, self._stages_with if has_slopes else {}, self._add, has_pairs=has_pairs)
        if has_pairs:
            self._add_pair_effects()

    def _add(self, name: str, width: int) -> int:
        """Reserves columns for a group and returns the first; extends the last group if it has the same name."""
        start = self.num_columns
        self.num_columns += width
        if self.groups and self.groups[-1].name == name:
            self.groups[-1] = EffectGroup(name, slice(self.groups[-1].columns.start, self.num_columns))
        else:
            self.groups.append(EffectGroup(name, slice(start, self.num_columns)))
        return start

    def _add_single_effects(self, *, has_depth: bool) -> None:
        """Reserves the columns of single attributes: shared ones first, then by depth, then those of each stage."""
        stages = self._chain.stages
        for name, stage_attributes in self._stages_with.items():
            if len(stage_attributes) > 1:
                self._shared[name] = self._add(
                    f"shared {name}", max(stages[s].num_levels[c] for s, c in stage_attributes)
                )
        self._by_depth = DepthEffects(self._chain, self._stages_with if has_depth else {}, self._add)
        for name, stage_attributes in self._stages_with.items():
            for s, c in stage_attributes:
                self._own[s, c] = self._add(f"own {name}", stages[s].num_levels[c])

    def _add_pair_effects(self) -> None:
        """Reserves the columns of pairs: within a stage, with the state before, and the latter shared by stages."""
        stages = self._chain.stages
        all_attributes = [pair for stage_attributes in self._stages_with.values() for pair in stage_attributes]
        for s, stage in enumerate(stages):
            columns = sorted(c for stage_index, c in all_attributes if stage_index == s)
            for first, second in combinations(columns, 2):
                width = stage.num_levels[first] * stage.num_levels[second]
                self._within[s, first, second] = self._add("within", width)
        for s, c in sorted(all_attributes):
            if s > 0 and len(self._state_levels[s - 1]) > 1:
                for state_attribute, width in enumerate(self._num_state_levels(s - 1)):
                    self._across[s, c, state_attribute] = self._add("across", width * stages[s].num_levels[c])
        for name, stage_attributes in self._stages_with.items():
            befores = [self._state_levels[s - 1] for s, _ in stage_attributes if s > 0]
            if len(befores) > 1 and len(befores[0]) > 1 and all(np.array_equal(b, befores[0]) for b in befores):
                for state_attribute, width in enumerate(self._num_state_levels(stage_attributes[-1][0] - 1)):
                    self._shared_across[name, state_attribute] = self._add(
                        "shared across", width * self._most_levels(name)
                    )

    def _num_state_levels(self, stage_index: int) -> list[int]:
        """Counts the levels of each attribute of a stage's states."""
        return [int(column.max()) + 1 for column in self._state_levels[stage_index].T]

    def _most_levels(self, name: str) -> int:
        """Returns the most levels that an attribute has in any stage."""
        return max(self._chain.stages[s].num_levels[c] for s, c in self._stages_with[name])

    def matrix(self, points: IntArray) -> FloatArray:
        """Returns the features, of shape (n, columns), of points of shape (n, stages)."""
        total: FloatArray = self.sparse(points).toarray()
        return total

    def sparse(self, points: IntArray) -> csr_array:
        """Returns `matrix` without its zeros. What several stages add to a column is not summed yet."""
        columns, values = [np.zeros((len(points), 0), dtype=np.int64)], [np.zeros((len(points), 0))]
        for stage_index, table in enumerate(self._tables):
            choices = points[:, stage_index]
            columns.append(table.columns[choices])
            values.append(table.values[choices])
            if stage_index > 0:
                before = self._chain.stages[stage_index - 1].state_position[points[:, stage_index - 1]]
                columns.append(table.columns_across[choices] + table.shifts[before])
                values.append(table.values_across[choices] * table.factors[before])
        indices, data = np.concatenate(columns, axis=1), np.concatenate(values, axis=1)
        starts = np.arange(len(points) + 1) * indices.shape[1]
        return csr_array((data.ravel(), indices.ravel(), starts), shape=(len(points), self.num_columns))

    @cached_property
    def _tables(self) -> list[_StageEntries]:
        """What each stage adds to a row, by choice and by the state before."""
        tables = []
        for stage_index, stage in enumerate(self._chain.stages):
            every, num_choices = np.arange(len(stage)), len(stage)
            alone = [(start + level, np.ones(num_choices)) for start, level in self._columns(stage_index, every)]
            alone += self._by_depth.columns(stage_index, every)
            alone += [
                (np.full(num_choices, column), centred) for column, centred in self._ordinal.columns(stage_index, every)
            ]
            states = self._state_levels[stage_index - 1] if stage_index > 0 else np.zeros((1, 0), dtype=np.int64)
            ones, zeros = np.ones(len(states)), np.zeros(len(states), dtype=np.int64)
            across = [
                (start + level, np.ones(num_choices), states[:, attribute] * width, ones)
                for start, attribute, width, level in self._columns_across(stage_index, every)
            ]
            across += [
                (np.full(num_choices, column), centred, zeros, before)
                for column, before, centred in self._ordinal.columns_across(stage_index, every)
            ]
            tables.append(
                _StageEntries(
                    _stacked([column for column, _ in alone], num_choices, np.int64),
                    _stacked([value for _, value in alone], num_choices, np.float64),
                    _stacked([column for column, _, _, _ in across], num_choices, np.int64),
                    _stacked([value for _, value, _, _ in across], num_choices, np.float64),
                    _stacked([shift for _, _, shift, _ in across], len(states), np.int64),
                    _stacked([factor for _, _, _, factor in across], len(states), np.float64),
                )
            )
        return tables

    def _columns(self, stage_index: int, choices: IntArray) -> list[tuple[int, IntArray]]:
        """Returns the columns that the choices of a stage set alone: first columns, and levels to add to them."""
        stage = self._chain.stages[stage_index]
        columns = []
        for (s, c), start in self._own.items():
            if s == stage_index:
                level = stage.levels[choices, c]
                columns.append((start, level))
                name = stage.attributes[c]
                if name in self._shared:
                    columns.append((self._shared[name], level))
        for (s, first, second), start in self._within.items():
            if s == stage_index:
                level = stage.levels[choices, first] * stage.num_levels[second] + stage.levels[choices, second]
                columns.append((start, level))
        return columns

    def _columns_across(self, stage_index: int, choices: IntArray) -> list[tuple[int, int, int, IntArray]]:
        """Returns the columns that choices set together with each attribute of the state before.

        Each is given by the first column, the attribute of the state, the columns per level of it, and the levels of
        the choices.
        """
        stage = self._chain.stages[stage_index]
        columns = []
        for (s, c, state_attribute), start in self._across.items():
            if s == stage_index:
                level = stage.levels[choices, c]
                columns.append((start, state_attribute, stage.num_levels[c], level))
                name = stage.attributes[c]
                if (name, state_attribute) in self._shared_across:
                    columns.append(
                        (self._shared_across[name, state_attribute], state_attribute, self._most_levels(name), level)
                    )
        return columns

    def score(self, weights: FloatArray) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
        """Returns the stage terms and the pair terms (see `AdditiveScore`) of weights of shape (columns,)."""
        stages, pairs = [], []
        for stage_index, stage in enumerate(self._chain.stages):
            all_choices = np.arange(len(stage))
            terms = np.zeros(len(stage))
            for start, level in self._columns(stage_index, all_choices):
                terms += weights[start + level]
            for columns, values in self._by_depth.columns(stage_index, all_choices):
                terms += weights[columns] * values
            for column, centred in self._ordinal.columns(stage_index, all_choices):
                terms += weights[column] * centred
            stages.append(terms)
            if stage_index > 0:
                before = self._state_levels[stage_index - 1]
                table = np.zeros((len(before), len(stage)))
                for start, state_attribute, width, level in self._columns_across(stage_index, all_choices):
                    table += weights[start + before[:, state_attribute, None] * width + level]
                for column, state_centred, centred in self._ordinal.columns_across(stage_index, all_choices):
                    table += weights[column] * state_centred[:, None] * centred
                pairs.append(table)
        return tuple(stages), tuple(pairs)


@dataclass(frozen=True)
class Trend:
    """The trend in the costs.

    The costs at the positions `axes` enter by their standardised logs and the squares of those. Other costs enter
    linearly, so their part is additive over the stages.
    """

    axes: tuple[int, ...]
    center: FloatArray
    scale: FloatArray
    """Standard deviation of each cost, or of its log for an axis; `center` is the mean."""

    @classmethod
    def of(cls, costs: FloatArray, axes: tuple[int, ...]) -> Trend:
        """Standardises by the costs of the labelled points, of shape (n, costs)."""
        columns = cls._columns(costs, axes)
        spread = columns.std(axis=0)
        return cls(axes, columns.mean(axis=0), np.where(spread > 1e-9, spread, 1.0))

    @staticmethod
    def _columns(costs: FloatArray, axes: tuple[int, ...]) -> FloatArray:
        """Returns the costs, with those of the axes replaced by their logs."""
        logs = np.log(np.maximum(costs, 1.0))
        return np.where(np.isin(np.arange(costs.shape[1]), axes), logs, costs)

    def standardised(self, costs: FloatArray) -> FloatArray:
        """Returns the standardised costs (of axes: logs), of shape (n, costs)."""
        return (self._columns(costs, self.axes) - self.center) / self.scale

    def matrix(self, costs: FloatArray) -> FloatArray:
        """Returns the columns of the trend: 1, every cost, and the squares of the axes; of shape (n, columns)."""
        table = self.standardised(costs)
        return np.column_stack([np.ones(len(costs)), table, table[:, list(self.axes)] ** 2])

    def per_unit(self, weights: FloatArray) -> FloatArray:
        """Returns the effect of one unit of each linear cost under weights of shape (columns,); 0 for axes."""
        num_costs = len(self.center)
        per_unit: FloatArray = np.where(np.isin(np.arange(num_costs), self.axes), 0.0, weights[1 : 1 + num_costs])
        return per_unit / self.scale

    @property
    def mean(self) -> FloatArray:
        """Prior mean of the columns' weights: the size prior, on the first axis."""
        mean = np.zeros(1 + len(self.center) + len(self.axes))
        if self.axes:
            mean[1 + self.axes[0]] = _SLOPE
        return mean

    @property
    def deviation(self) -> FloatArray:
        """Prior standard deviation of the columns' weights."""
        return np.array([_OFFSET_SD] + [_SLOPE_SD] * len(self.center) + [_CURVE_SD] * len(self.axes))
