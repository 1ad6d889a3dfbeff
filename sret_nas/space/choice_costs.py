"""Costs of a space's choices: FLOPs and parameters of a network are sums over its choices and its poolings.

A network is written as its *choices*: one integer per stage, the row of the stage's table. A choice also encodes the
residual connections, which are those of the whole network, and in stage 1 the stem. Networks are counted, drawn and
compared as such tuples; `ChoiceCosts.network` builds architectures from them.

Choices of neighbouring stages fit if they have the same residual connections. Each choice therefore has a *state*: its
residual connections and its width, on which the pooling depends. States of neighbours either have a link or do not fit.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import NamedTuple

import numpy as np

from sret_nas.arch.config import CLASS_TOKENS, COEFFICIENTS, ArchConfig, Residual, paper_stem_width
from sret_nas.arch.cost import head_cost, pool_cost, stem_cost
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


class ChoiceCosts:
    """The costs of a space's choices; the stem counts with stage 1, the head with the last stage.

    A choice is `option * rows + row`, with the position of its option and the row of its stage.

    Attributes:
        options: What the choices of a stage decide besides its row, one list per stage.
        rows: Number of distinct stages per stage.
        width: Width of each choice; one array of shape (choices,) per stage.
        state: State of each choice, likewise: its width, plus `RESIDUAL_STEP` for every residual listed before its own.
        flops: FLOPs of each choice, likewise.
        params: Parameters of each choice, likewise.
        shallowest_flops: FLOPs of each choice at the shallowest depth, where it is applied once, likewise. Poolings
            have the same FLOPs at every depth.
        links: Costs of the pooling after each stage but the last.
    """

    def __init__(self, space: SearchSpace) -> None:
        """Costs all choices of the space."""
        tables = space.stage_choices
        self.rows = [len(table) for table in tables]
        self.options = [
            [Option(*one) for one in product(space.residual, space.stem.stems if stage == 0 else (None,))]
            for stage in range(len(tables))
        ]
        self.width, self.state, self.flops, self.params, self.shallowest_flops = (list[IntArray]() for _ in range(5))
        for stage, (table, options) in enumerate(zip(tables, self.options, strict=True)):
            costs = [_costs(space, stage, option) for option in options]
            for column, parts in zip(
                (self.flops, self.params, self.shallowest_flops), zip(*costs, strict=True), strict=True
            ):
                column.append(np.concatenate(parts))
            residual = np.repeat([space.residual.index(option.residual) for option in options], len(table))
            self.width.append(np.tile(table.columns.width, len(options)))
            self.state.append(RESIDUAL_STEP * residual + self.width[-1])

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
        rows, stem = space.rows_of(arch), space.stem_of(arch)
        wanted = [Option(arch.residual, stem if stage == 0 else None) for stage in range(len(rows))]
        return tuple(
            options.index(option) * count + row
            for options, option, count, row in zip(self.options, wanted, self.rows, rows, strict=True)
        )

    def network(self, space: SearchSpace, choices: tuple[int, ...]) -> ArchConfig:
        """Builds the architecture of one choice per stage; `space` must be the one that was costed."""
        option, _ = divmod(choices[0], self.rows[0])
        residual, stem = self.options[0][option]
        return space.network([choice % rows for choice, rows in zip(choices, self.rows, strict=True)], stem, residual)


def _costs(space: SearchSpace, stage: int, option: Option) -> tuple[IntArray, IntArray, IntArray]:
    """Returns FLOPs, parameters and FLOPs at the shallowest depth of a stage's rows with an option, (rows,) each."""
    table, is_last = space.stage_choices[stage], stage == len(space.stages) - 1
    class_tokens = CLASS_TOKENS[space.head] if is_last else 0
    flops, params, shallowest_flops = table.costs(class_tokens, COEFFICIENTS[option.residual])
    width = table.columns.width
    parts = [head_cost(table.num_tokens, width, space.classes, space.head)] if is_last else []
    if option.stem is not None:
        stem_width = paper_stem_width(width) if option.stem.width is None else option.stem.width
        parts.append(
            stem_cost(
                space.image_size, space.channels, stem_width, space.stem.strides, width, option.stem.kind,
                option.stem.norm,
            )
        )  # fmt: skip
    for part in parts:
        flops, params, shallowest_flops = flops + part.flops, params + part.params, shallowest_flops + part.flops
    return flops, params, shallowest_flops


def choice_costs_of(space: SearchSpace) -> ChoiceCosts:
    """Returns the costs of a space's choices, computed once per space."""
    return space.tables.get(ChoiceCosts, lambda: ChoiceCosts(space))
