"""Costs of a space's choices: FLOPs and parameters of a network are sums over its choices and its poolings.

A network is written as its *choices*: one integer per stage, the row of the stage's table. A choice also encodes the
residual connections, which are those of the whole network; in stage 1 the stem; and in the last stage the head.
Networks are counted, drawn and compared as such tuples; `ChoiceCosts.network` builds architectures from them.

Choices of neighbouring stages fit if they have the same residual connections. Each choice therefore has a *state*: its
residual connections and its width, on which the pooling depends. States of neighbours either have a link or do not fit.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import NamedTuple

import numpy as np

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import head_cost, pool_cost, stem_cost
from sret_nas.arch.parts import CLASS_TOKENS, COEFFICIENTS, Head, Residual
from sret_nas.arch.sizes import paper_stem_width
from sret_nas.arrays import IntArray
from sret_nas.space.choices import StemChoice
from sret_nas.space.search_space import SearchSpace

Links = dict[tuple[int, int], tuple[int, int]]
"""FLOPs and parameters of a pooling by the states before and after it."""

RESIDUAL_STEP = 2**14
"""What the state of a choice differs by from that with the residual connections listed before; more than any width."""


class Option(NamedTuple):
    """What a choice decides besides the row of its stage."""

    residual: Residual
    stem: StemChoice | None
    """In stage 1 alone."""
    head: Head | None
    """In the last stage alone."""


class ChoiceCosts:
    """The costs of a space's choices; the stem counts with stage 1, the head with the last stage.

    The choices of a stage are its rows with the first option, then those with the second, and so on. A head with class
    tokens does not go with all rows.

    Attributes:
        options: What the choices of a stage decide besides its row, one list per stage.
        option: Position of each choice's option; one array of shape (choices,) per stage.
        row: Row of each choice, likewise.
        width: Width of each choice, likewise.
        state: State of each choice, likewise: its width, plus `RESIDUAL_STEP` for every residual listed before its own.
        flops: FLOPs of each choice, likewise.
        params: Parameters of each choice, likewise.
        shallowest_flops: FLOPs of each choice at the shallowest depth, where it is applied once, likewise. Poolings
            have the same FLOPs at every depth.
        links: Costs of the pooling after each stage but the last.
    """

    def __init__(self, space: SearchSpace) -> None:
        """Costs all choices of the space."""
        self.options, self._rows = list[list[Option]](), list[list[IntArray]]()
        self.option, self.row, self.width, self.state = (list[IntArray]() for _ in range(4))
        self.flops, self.params, self.shallowest_flops = (list[IntArray]() for _ in range(3))
        for stage, table in enumerate(space.stage_tables):
            options = _options(space, stage)
            rows = [np.arange(len(table)) if one.head is None else space.last_rows(one.head) for one in options]
            self.options.append(options)
            self._rows.append(rows)
            self.option.append(np.repeat(np.arange(len(options)), [len(kept) for kept in rows]))
            self.row.append(np.concatenate(rows))
            self.width.append(table.columns.width[self.row[-1]])
            residual = np.array([space.residual.index(option.residual) for option in options])
            self.state.append(RESIDUAL_STEP * residual[self.option[-1]] + self.width[-1])
            costs = [
                [cost[kept] for cost in _costs(space, stage, one)] for one, kept in zip(options, rows, strict=True)
            ]
            flops, params, shallowest_flops = (np.concatenate(parts) for parts in zip(*costs, strict=True))
            self.flops.append(flops)
            self.params.append(params)
            self.shallowest_flops.append(shallowest_flops)

        self.links: list[Links] = []
        for tokens, (before, after) in zip(space.num_tokens[1:], pairwise(self.width), strict=True):
            pools = {
                pair: pool_cost(tokens, *pair)
                for pair in product(np.unique(before).tolist(), np.unique(after).tolist())
            }
            self.links.append({
                (start + first, start + second): (cost.flops, cost.params)
                for start in range(0, len(space.residual) * RESIDUAL_STEP, RESIDUAL_STEP)
                for (first, second), cost in pools.items()
            })  # fmt: skip

    @property
    def num_residuals(self) -> int:
        """Number of residual connections to choose from: as many parts of the space have no link between them."""
        return len({option.residual for option in self.options[0]})

    def cost(self, choices: tuple[int, ...]) -> tuple[int, int]:
        """Returns FLOPs and parameters of a network."""
        flops = sum(int(costs[choice]) for costs, choice in zip(self.flops, choices, strict=True))
        params = sum(int(costs[choice]) for costs, choice in zip(self.params, choices, strict=True))
        states = [int(state[choice]) for state, choice in zip(self.state, choices, strict=True)]
        for link, pair in zip(self.links, pairwise(states), strict=True):
            flops, params = flops + link[pair][0], params + link[pair][1]
        return flops, params

    def bounded(self, choices: tuple[int, ...]) -> tuple[int, int, int]:
        """Returns what a `Budget` bounds of a network: FLOPs, parameters, and FLOPs at the shallowest depth."""
        flops, params = self.cost(choices)
        deeper = sum(
            int(costs[choice]) - int(shallowest[choice])
            for costs, shallowest, choice in zip(self.flops, self.shallowest_flops, choices, strict=True)
        )
        return flops, params, flops - deeper

    def shallowest(self, choices: IntArray, flops: IntArray) -> IntArray:
        """Returns the FLOPs at the shallowest depth, of shape (n,), of choices of shape (n, stages) and their FLOPs."""
        shallowest = flops.copy()
        for stage, column in enumerate(choices.T):
            shallowest -= (self.flops[stage] - self.shallowest_flops[stage])[column]
        return shallowest

    def choices(self, space: SearchSpace, arch: ArchConfig) -> tuple[int, ...]:
        """Returns the choices of a network. Raises `UserError` if it is not in the space."""
        rows, stem, choices = space.rows_of(arch), space.stem_of(arch), []
        for stage, row in enumerate(rows):
            wanted = Option(arch.residual, stem if stage == 0 else None, arch.head if stage == len(rows) - 1 else None)
            option = self.options[stage].index(wanted)
            before = sum(len(kept) for kept in self._rows[stage][:option])
            choices.append(before + int(np.searchsorted(self._rows[stage][option], row)))
        return tuple(choices)

    def network(self, space: SearchSpace, choices: tuple[int, ...]) -> ArchConfig:
        """Builds the architecture of one choice per stage; `space` must be the one that was costed."""
        first, last = (self.options[stage][self.option[stage][choices[stage]]] for stage in (0, -1))
        rows = [int(row[choice]) for row, choice in zip(self.row, choices, strict=True)]
        return space.network(rows, first.stem, first.residual, last.head)


def _options(space: SearchSpace, stage: int) -> list[Option]:
    """Returns what the choices of a stage may decide besides its row, by residual connections first."""
    stems = space.stem.stems if stage == 0 else (None,)
    heads = space.head if stage == len(space.stages) - 1 else (None,)
    return [Option(*one) for one in product(space.residual, stems, heads)]


def _costs(space: SearchSpace, stage: int, option: Option) -> tuple[IntArray, IntArray, IntArray]:
    """Returns FLOPs, parameters and FLOPs at the shallowest depth of a stage's rows with an option, (rows,) each."""
    table, parts = space.stage_tables[stage], []
    width, class_tokens = table.columns.width, 0
    if option.stem is not None:
        stem_width = paper_stem_width(width) if option.stem.width is None else option.stem.width
        parts.append(
            stem_cost(
                space.image_size, space.channels, stem_width, space.stem.strides, width, option.stem.kind,
                option.stem.norm,
            )
        )  # fmt: skip
    if option.head is not None:
        class_tokens = CLASS_TOKENS[option.head]
        parts.append(head_cost(table.num_tokens, width, space.classes, option.head))
    flops, params, shallowest_flops = table.costs(class_tokens, COEFFICIENTS[option.residual])
    for part in parts:
        flops, params, shallowest_flops = flops + part.flops, params + part.params, shallowest_flops + part.flops
    return flops, params, shallowest_flops


def choice_costs_of(space: SearchSpace) -> ChoiceCosts:
    """Returns the costs of a space's choices, computed once per space."""
    return space.tables.get(ChoiceCosts, lambda: ChoiceCosts(space))
