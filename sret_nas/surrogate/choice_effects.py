"""What each choice is worth, by a fitted model: the change of the objective if this choice alone is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain
from sret_nas.surrogate.model import Surrogate

INTERVAL = 0.9
"""Posterior probability that an effect lies between its bounds."""

MAX_POINTS = 300
"""Most points that an effect is averaged over; of more, evenly spaced ones are used."""


@dataclass(frozen=True)
class ChoiceEffect:
    """The effect of replacing one level of an attribute by another in one stage, with all else equal.

    Attributes:
        stage: The stage, counted from 0.
        attribute: Name of the attribute.
        before: The level that is replaced, counted from 0.
        after: The level that replaces it.
        mean: Posterior mean of the change of the objective, averaged over points.
        low: Lower bound of the change.
        high: Upper bound of it.
        cost_ratios: Mean ratio of each cost after to before, of shape (costs,).
    """

    stage: int
    attribute: str
    before: int
    after: int
    mean: float
    low: float
    high: float
    cost_ratios: FloatArray

    @property
    def is_sure(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def choice_effects(
    chain: Chain, model: Surrogate, points: IntArray, rng: np.random.Generator, num_draws: int = 400
) -> list[ChoiceEffect]:
    """Returns the effect of every step from one listed level to the next, stage by stage.

    An effect is averaged over those of the points, of shape (n, stages), in which the step leads to another network of
    the space. Costs change with the choice, so the trend in size is part of its effect. Steps that no point can take
    are left out.
    """
    chosen = np.linspace(0, len(points) - 1, min(len(points), MAX_POINTS)).round().astype(int)
    points = points[chosen]
    drawn = np.column_stack([model.mean_weights, model.draw_weights(rng, num_draws)])
    effects = []
    for stage_index, stage in enumerate(chain.stages):
        position_of = {tuple(levels): choice for choice, levels in enumerate(stage.levels.tolist())}
        for column, name in enumerate(stage.attributes):
            for before in range(stage.num_levels[column] - 1):
                old, new = _step(chain, points, stage_index, position_of, column, before)
                if len(old) == 0:
                    continue
                old_costs, new_costs = chain.costs(old).astype(float), chain.costs(new).astype(float)
                change = model.predict(new, new_costs, drawn) - model.predict(old, old_costs, drawn)
                mean, *draws = change.mean(axis=0).tolist()
                low, high = np.quantile(draws, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]).tolist()
                ratios = (new_costs / np.maximum(old_costs, 1)).mean(axis=0)
                effects.append(ChoiceEffect(stage_index, name, before, before + 1, mean, low, high, ratios))
    return effects


def _step(
    chain: Chain, points: IntArray, stage_index: int, position_of: Mapping[tuple[int, ...], int], column: int,
    before: int,
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """Returns the points that can step from a level to the next in one attribute, and where they then are.

    `position_of` has the position of each of the stage's choices, by its levels.
    """
    stage, common = chain.stages[stage_index], chain.common
    if common is not None and stage.attributes[column] == common.name:
        old_points = points[stage.levels[points[:, stage_index], column] == before]
        return old_points, common.with_level(old_points, before + 1)
    old, new = [], []
    for point in points.tolist():
        levels = stage.levels[point[stage_index]].tolist()
        if levels[column] != before:
            continue
        levels[column] = before + 1
        choice = position_of.get(tuple(levels))
        if choice is not None and _fits(chain, point, stage_index, choice):
            old.append(point)
            new.append([*point[:stage_index], choice, *point[stage_index + 1 :]])
    shape = (-1, len(chain.stages))
    return np.array(old, dtype=np.int64).reshape(shape), np.array(new, dtype=np.int64).reshape(shape)


def _fits(chain: Chain, point: list[int], stage_index: int, choice: int) -> bool:
    """Returns whether the links from and to a stage exist with another choice there."""
    states = [int(stage.state[chosen]) for stage, chosen in zip(chain.stages, point, strict=True)]
    states[stage_index] = int(chain.stages[stage_index].state[choice])
    return all(pair in chain.links[position] for position, pair in _pairs_at(states, stage_index))


def _pairs_at(states: list[int], stage_index: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yields the pairs of states on both sides of a stage, each with the position of its link."""
    for position in (stage_index - 1, stage_index):
        if 0 <= position < len(states) - 1:
            yield position, (states[position], states[position + 1])
