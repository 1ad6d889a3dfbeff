"""A chain of stages: what a search space is to those that only add: costs of choices, and of neighbours' links.

A network is written as a *point*, one choice per stage. Its costs are sums over its choices and over the links between
neighbouring stages, which depend on the *states* of the two: the widths, in a space of SReTs. A link that is not listed
is no network. What a choice is made of is coded as one level per attribute (width, recursions, ...), so that a model of
accuracy can add over those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import IntArray
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.choices import STAGE_DIMENSIONS
from sret_nas.space.search_space import SearchSpace

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
    def states(self) -> IntArray:
        """The different states, sorted."""
        return np.unique(self.state)

    @cached_property
    def state_position(self) -> IntArray:
        """Which of `states` each choice has, of shape (n,)."""
        return np.searchsorted(self.states, self.state)

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
    state_levels: Mapping[int, tuple[int, ...]] | None = None
    """What a state consists of, one level per attribute of states; None where a state is one thing, as a width is."""

    def levels_of_states(self, number: int) -> IntArray:
        """The levels of a stage's states, in sorted order, of shape (states, attributes of states)."""
        states = self.stages[number].states
        if self.state_levels is None:
            return np.arange(len(states))[:, None]
        return np.array([self.state_levels[state] for state in states.tolist()])

    @cached_property
    def link_costs(self) -> tuple[IntArray, ...]:
        """The costs of the links from each stage to the next, of shape (states, states, costs); 0 where none is."""
        free = (0,) * len(self.cost_names)
        return tuple(
            np.array([[links.get((a, b), free) for b in after.states.tolist()] for a in before.states.tolist()])
            for links, (before, after) in zip(self.links, pairwise(self.stages), strict=True)
        )

    @cached_property
    def _is_link(self) -> tuple[npt.NDArray[np.bool_], ...]:
        return tuple(
            np.array([[(a, b) in links for b in after.states.tolist()] for a in before.states.tolist()])
            for links, (before, after) in zip(self.links, pairwise(self.stages), strict=True)
        )

    def costs(self, points: npt.ArrayLike) -> IntArray:
        """The costs of points, of shape (n, stages), as an array of shape (n, costs). Raises `KeyError` for a link
        that is not there."""
        table = np.asarray(points, dtype=np.int64)
        total: IntArray = sum(
            (stage.costs[table[:, position]] for position, stage in enumerate(self.stages)),
            np.zeros((len(table), len(self.cost_names)), dtype=np.int64),
        )
        for position, (before, after) in enumerate(pairwise(self.stages)):
            first, second = before.state_position[table[:, position]], after.state_position[table[:, position + 1]]
            if not self._is_link[position][first, second].all():
                raise KeyError(f"a point goes from stage {position} to the next by a link that is not there")
            total += self.link_costs[position][first, second]
        return total


def chain_of(space: SearchSpace) -> Chain:
    """Returns a space as a chain, which the space keeps; its points are the tuples of `sret_nas.space.choice_costs`."""
    return space.tables.get(Chain, lambda: _chain_of(space))


def _chain_of(space: SearchSpace) -> Chain:
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
