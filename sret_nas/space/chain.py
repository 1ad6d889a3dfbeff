"""A search space reduced to additive costs: one per choice, one per pair of neighbouring stages.

A *point* is one choice per stage; it stands for a network. Its costs are sums over its choices and over the *links*
between neighbouring stages. A link's cost depends on the *states* of the two stages, which are widths in a space of
SReTs. States without a listed link cannot follow each other. Each choice is also described by one *level* per attribute
(width, recursions, ...), so that a surrogate of accuracy can add effects of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import IntArray
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace

Point = tuple[int, ...]
"""One choice per stage of a chain, as positions."""


@dataclass(frozen=True, eq=False)
class ChainStage:
    """The n choices of one stage.

    Attributes of the same name in several stages mean the same, so a surrogate may share their effects.

    Attributes:
        state: State of each choice, of shape (n,).
        costs: Costs of each choice, of shape (n, costs), in the order of `Chain.cost_names`.
        attributes: Names of the attributes.
        levels: Level of each choice in each attribute, from 0, of shape (n, attributes).
    """

    state: IntArray
    costs: IntArray
    attributes: tuple[str, ...]
    levels: IntArray

    def __len__(self) -> int:
        return len(self.state)

    @cached_property
    def states(self) -> IntArray:
        """The distinct states, sorted."""
        return np.unique(self.state)

    @cached_property
    def state_position(self) -> IntArray:
        """Position in `states` of each choice's state, of shape (n,)."""
        return np.searchsorted(self.states, self.state)

    @cached_property
    def num_levels(self) -> tuple[int, ...]:
        """Number of levels of each attribute."""
        return tuple(int(column.max()) + 1 for column in self.levels.T)


@dataclass(frozen=True, eq=False)
class Chain:
    """Stages, and the costs of the links between their states.

    `links[s]` maps a state of stage s and one of stage s + 1 to the costs of their link.
    """

    cost_names: tuple[str, ...]
    stages: tuple[ChainStage, ...]
    links: tuple[Mapping[tuple[int, int], tuple[int, ...]], ...]
    state_levels: Mapping[int, tuple[int, ...]] | None = None
    """Levels of the attributes that a state consists of; None if states are atomic, as widths are."""

    def levels_of_states(self, stage_index: int) -> IntArray:
        """Returns the levels of a stage's sorted states, of shape (states, attributes of states)."""
        states = self.stages[stage_index].states
        if self.state_levels is None:
            return np.arange(len(states))[:, None]
        return np.array([self.state_levels[state] for state in states.tolist()])

    @cached_property
    def link_costs(self) -> tuple[IntArray, ...]:
        """Costs of the links from each stage to the next, of shape (states, states, costs); 0 for missing links."""
        free = (0,) * len(self.cost_names)
        return tuple(
            np.array([[links.get((a, b), free) for b in after.states.tolist()] for a in before.states.tolist()])
            for links, (before, after) in zip(self.links, pairwise(self.stages), strict=True)
        )

    @cached_property
    def _is_link(self) -> tuple[npt.NDArray[np.bool_], ...]:
        """Masks of the links that exist, from each stage to the next, of shape (states, states)."""
        return tuple(
            np.array([[(a, b) in links for b in after.states.tolist()] for a in before.states.tolist()])
            for links, (before, after) in zip(self.links, pairwise(self.stages), strict=True)
        )

    def costs(self, points: npt.ArrayLike) -> IntArray:
        """Returns the costs, of shape (n, costs), of points of shape (n, stages).

        Raises `KeyError` if a point uses a link that does not exist.
        """
        table = np.asarray(points, dtype=np.int64)
        total: IntArray = sum(
            (stage.costs[table[:, position]] for position, stage in enumerate(self.stages)),
            np.zeros((len(table), len(self.cost_names)), dtype=np.int64),
        )
        for position, (before, after) in enumerate(pairwise(self.stages)):
            first, second = before.state_position[table[:, position]], after.state_position[table[:, position + 1]]
            if not self._is_link[position][first, second].all():
                raise KeyError(f"a point goes from stage {position} to the next by a link that does not exist")
            total += self.link_costs[position][first, second]
        return total


def chain_of(space: SearchSpace) -> Chain:
    """Returns the chain of a space, computed once per space; its points are tuples as in `ChoiceCosts`."""
    return space.tables.get(Chain, lambda: _chain_of(space))


SHALLOWEST = "shallowest_flops"
"""Name of the FLOPs at the shallowest depth as a cost of a chain."""


def with_shallowest(chain: Chain, space: SearchSpace) -> Chain:
    """Returns a chain of a space's networks with the FLOPs at the shallowest depth as its last cost."""
    costs, flops = choice_costs_of(space), chain.cost_names.index("flops")
    stages = tuple(
        replace(stage, costs=np.column_stack([stage.costs, shallowest]))
        for stage, shallowest in zip(chain.stages, costs.shallowest_flops, strict=True)
    )
    links = tuple({pair: (*cost, cost[flops]) for pair, cost in stage.items()} for stage in chain.links)
    return Chain((*chain.cost_names, SHALLOWEST), stages, links, chain.state_levels)


def _chain_of(space: SearchSpace) -> Chain:
    """Computes the chain of a space, with the costs `flops` and `params`."""
    costs, stages = choice_costs_of(space), []
    for stage_index, table in enumerate(space.stage_choices):
        levels = table.spelling
        attributes = table.choices.dimensions
        if stage_index == 0:
            stem = np.repeat(_stem_levels(space), len(table), axis=0)
            levels = np.column_stack([np.tile(levels, (len(costs.stems), 1)), stem])
            attributes = (*attributes, *(f"stem {name}" for name in space.stem.dimensions))
        stages.append(
            ChainStage(
                state=costs.width[stage_index],
                costs=np.column_stack([costs.flops[stage_index], costs.params[stage_index]]),
                attributes=attributes,
                levels=levels,
            )
        )
    return Chain(("flops", "params"), tuple(stages), tuple(costs.links))


def _stem_levels(space: SearchSpace) -> IntArray:
    """Returns the positions of the listed values that spell each stem, of shape (stems, dimensions of the stem)."""
    spellings = [space.stem.spelling(stem) for stem in space.stem.stems]
    levels = [[getattr(space.stem, name).index(value) for name, value in one.items()] for one in spellings]
    return np.array(levels, dtype=np.int64)
