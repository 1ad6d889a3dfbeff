"""A search space reduced to additive costs: one per choice, one per pair of neighbouring stages.

A *point* is one choice per stage; it stands for a network. Its costs are sums over its choices and over the *links*
between neighbouring stages. A link's cost depends on the *states* of the two stages, which are widths in a space of
SReTs, with the residual connections where the space lists several. States without a listed link cannot follow each
other. Each choice is also described by one *level* per attribute
(width, recursions, ...), so that a surrogate of accuracy can add effects of those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import IntArray
from sret_nas.space.choice_costs import RESIDUAL_STEP, Option, choice_costs_of
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
class CommonAttribute:
    """An attribute that all choices of a point have in common, so that no link joins choices that differ in it.

    Attributes:
        name: Its name, which is that of an attribute of stage 0.
        turned: For each stage, the choice that has another level of it and else equals a choice, (choices, levels).
    """

    name: str
    turned: tuple[IntArray, ...]

    def with_level(self, points: IntArray, level: int | IntArray) -> IntArray:
        """Returns points of shape (n, stages) with another level of the attribute, one for all or (n,)."""
        return np.column_stack([turned[column, level] for turned, column in zip(self.turned, points.T, strict=True)])


@dataclass(frozen=True, eq=False)
class Chain:
    """Stages, and the costs of the links between their states.

    `links[s]` maps a state of stage s and one of stage s + 1 to the costs of their link.
    """

    cost_names: tuple[str, ...]
    stages: tuple[ChainStage, ...]
    links: tuple[Mapping[tuple[int, int], tuple[int, ...]], ...]
    state_levels: Sequence[Mapping[int, tuple[int, ...]]] | None = None
    """By stage, levels of the attributes that a state consists of; None if states are atomic, as widths are."""
    common: CommonAttribute | None = None
    """None if choices of neighbouring stages have no attribute in common."""

    def levels_of_states(self, stage_index: int) -> IntArray:
        """Returns the levels of a stage's sorted states, of shape (states, attributes of states)."""
        states = self.stages[stage_index].states
        if self.state_levels is None:
            return np.arange(len(states))[:, None]
        return np.array([self.state_levels[stage_index][state] for state in states.tolist()])

    @cached_property
    def link_costs(self) -> tuple[IntArray, ...]:
        """Costs of the links from each stage to the next, of shape (states, states, costs); 0 for missing links."""
        free = (0,) * len(self.cost_names)
        return tuple(
            np.array([[links.get((a, b), free) for b in after.states.tolist()] for a in before.states.tolist()])
            for links, (before, after) in zip(self.links, pairwise(self.stages), strict=True)
        )

    @cached_property
    def is_link(self) -> tuple[npt.NDArray[np.bool_], ...]:
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
            if not self.is_link[position][first, second].all():
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
    return replace(chain, cost_names=(*chain.cost_names, SHALLOWEST), stages=stages, links=links)


def _chain_of(space: SearchSpace) -> Chain:
    """Computes the chain of a space, with the costs `flops` and `params`."""
    costs, stages = choice_costs_of(space), []
    for stage_index, (table, options) in enumerate(zip(space.stage_tables, costs.options, strict=True)):
        attributes, levels = _option_levels(space, stage_index, options)
        stages.append(
            ChainStage(
                state=costs.state[stage_index],
                costs=np.column_stack([costs.flops[stage_index], costs.params[stage_index]]),
                attributes=(*table.choices.dimensions, *attributes),
                levels=np.column_stack([
                    table.spelling[costs.row[stage_index]], levels[costs.option[stage_index]]
                ]),
            )
        )  # fmt: skip
    chain = Chain(("flops", "params"), tuple(stages), tuple(costs.links))
    return chain if len(space.residual) == 1 else _with_common_residual(chain, space)


def _option_levels(space: SearchSpace, stage_index: int, options: Sequence[Option]) -> tuple[list[str], IntArray]:
    """Returns the attributes of the options of a stage, and their levels, of shape (options, attributes).

    The residual connections, which all stages have, are an attribute of stage 1 alone.
    """
    listed: dict[str, tuple[Any, ...]] = {}
    if stage_index == 0:
        listed |= {f"stem {name}": getattr(space.stem, name) for name in space.stem.dimensions}
        listed |= {name: getattr(space, name) for name in space.listed_variants if name != "head"}
    if stage_index == len(space.stages) - 1 and "head" in space.listed_variants:
        listed["head"] = space.head
    rows = []
    for option in options:
        stem = {} if option.stem is None else space.stem.spelling(option.stem)
        values = {f"stem {name}": value for name, value in stem.items()} | option._asdict()
        rows.append([values_listed.index(values[name]) for name, values_listed in listed.items()])
    return list(listed), np.array(rows, dtype=np.int64).reshape(len(options), len(listed))


def _with_common_residual(chain: Chain, space: SearchSpace) -> Chain:
    """Returns the chain of a space that lists several residual connections, with what they are to states and points."""
    levels, turned = [], []
    for stage in chain.stages:
        widths = np.unique(stage.states % RESIDUAL_STEP).tolist()
        levels.append({
            state: (widths.index(state % RESIDUAL_STEP), state // RESIDUAL_STEP) for state in stage.states.tolist()
        })  # fmt: skip
        # Choices are ordered by their residual connections first.
        turned.append(np.tile(np.arange(len(stage)).reshape(len(space.residual), -1).T, (len(space.residual), 1)))
    return replace(chain, state_levels=tuple(levels), common=CommonAttribute("residual", tuple(turned)))
