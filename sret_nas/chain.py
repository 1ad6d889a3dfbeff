"""A chain of stages: what a search space is to those that only add: costs of choices, and of neighbours' links.

A network is written as a *point*, one choice per stage. Its costs are sums over its choices and over the links between
neighbouring stages, which depend on the *states* of the two: the widths, in a space of SReTs. A link that is not listed
is no network. What a choice is made of is coded as one level per attribute (width, recursions, ...), so that a model of
accuracy can add over those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from sret_nas.choice_costs import choice_costs_of
from sret_nas.choices import STAGE_DIMENSIONS
from sret_nas.cost import IntArray
from sret_nas.space import SearchSpace

Point = tuple[int, ...]
"""One choice per stage of a chain."""


@dataclass(frozen=True, eq=False)
class ChainStage:
    """The choices of one stage: `state` (n,), `costs` (n, costs) in the chain's units, `levels` (n, attributes).

    Attributes of the same name in several stages are of one kind, which a model may let share an effect.
    """

    state: IntArray
    costs: IntArray
    attributes: tuple[str, ...]
    levels: IntArray

    def __len__(self) -> int:
        return len(self.state)

    @cached_property
    def num_levels(self) -> tuple[int, ...]:
        """How many levels each attribute has."""
        return tuple(int(column.max()) + 1 for column in self.levels.T)


@dataclass(frozen=True, eq=False)
class Chain:
    """Stages, and the costs of the links between their states; `links[s]` joins stage s to stage s + 1."""

    cost_names: tuple[str, ...]
    stages: tuple[ChainStage, ...]
    links: tuple[Mapping[tuple[int, int], tuple[int, ...]], ...]

    def costs(self, points: npt.ArrayLike) -> IntArray:
        """The costs of points, of shape (n, stages), as an array of shape (n, costs). Raises `KeyError` for a link
        that is not there."""
        table = np.asarray(points, dtype=np.int64)
        total: IntArray = sum(
            (stage.costs[table[:, position]] for position, stage in enumerate(self.stages)),
            np.zeros((len(table), len(self.cost_names)), dtype=np.int64),
        )
        for position, links in enumerate(self.links):
            pairs = np.column_stack([
                self.stages[position].state[table[:, position]], self.stages[position + 1].state[table[:, position + 1]]
            ])  # fmt: skip
            distinct, inverse = np.unique(pairs, axis=0, return_inverse=True)
            if len(distinct):
                total += np.array([links[first, second] for first, second in distinct.tolist()])[inverse.ravel()]
        return total


@lru_cache(maxsize=8)
def chain_of(space: SearchSpace) -> Chain:
    """A search space as a chain; its points are the tuples of `sret_nas.choice_costs`."""
    costs, stages = choice_costs_of(space), []
    for number, table in enumerate(space.stage_choices):
        levels = table.spelling
        attributes = STAGE_DIMENSIONS
        if number == 0 and costs.stem_widths:
            stem = np.repeat(np.arange(len(costs.stem_widths)), len(table))
            levels = np.column_stack([np.tile(levels, (len(costs.stem_widths), 1)), stem])
            attributes = (*attributes, "stem width")
        stages.append(
            ChainStage(
                state=costs.width[number],
                costs=np.column_stack([costs.flops[number], costs.params[number]]),
                attributes=attributes,
                levels=levels,
            )
        )
    return Chain(("flops", "params"), tuple(stages), tuple(costs.links))
