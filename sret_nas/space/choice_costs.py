"""Costs of a space's choices: FLOPs and parameters of a network are sums over its choices and its poolings.

A network is written as its *choices*: one integer per stage, the row of the stage's table. In stage 1 it also encodes
the stem. Networks are counted, drawn and compared as such tuples; `ChoiceCosts.network` builds architectures
from them.
"""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np

from sret_nas.arch.config import ArchConfig, paper_stem_width
from sret_nas.arch.cost import head_cost, pool_cost, stem_cost
from sret_nas.arrays import IntArray
from sret_nas.space.search_space import SearchSpace

Links = dict[tuple[int, int], tuple[int, int]]
"""FLOPs and parameters of a pooling by the widths before and after it."""


class ChoiceCosts:
    """The costs of a space's choices; the stem counts with stage 1, the head with the last stage.

    A choice of stage 1 is `stem * rows[0] + row`; of every other stage, it is the row.

    Attributes:
        stems: The distinct stems.
        rows: Number of distinct stages per stage.
        width: Width of each choice; one array of shape (choices,) per stage.
        flops: FLOPs of each choice, likewise.
        params: Parameters of each choice, likewise.
        shallowest_flops: FLOPs of each choice at the shallowest depth, where it is applied once, likewise. Poolings
            have the same FLOPs at every depth.
        links: Costs of the pooling after each stage but the last.
    """

    def __init__(self, space: SearchSpace) -> None:
        """Costs all choices of the space."""
        tables, tokens = space.stage_choices, space.num_tokens
        self.stems = space.stem.stems
        self.rows = [len(table) for table in tables]
        stems = len(self.stems)
        self.width = [np.tile(tables[0].columns.width, stems), *(table.columns.width for table in tables[1:])]
        self.flops = [np.tile(tables[0].flops, stems), *(table.flops for table in tables[1:])]
        self.params = [np.tile(tables[0].params, stems), *(table.params for table in tables[1:])]
        self.shallowest_flops = [
            np.tile(tables[0].shallowest_flops, stems), *(table.shallowest_flops for table in tables[1:])
        ]  # fmt: skip

        stem = self._stem_costs(space, tables[0].columns.width)
        head = head_cost(tokens[-1], self.width[-1], space.classes, space.head)
        for stage, (flops, params) in ((0, stem), (len(tables) - 1, (head.flops, head.params))):
            self.flops[stage] = self.flops[stage] + flops
            self.params[stage] = self.params[stage] + params
            self.shallowest_flops[stage] = self.shallowest_flops[stage] + flops

        self.links: list[Links] = []
        for stage in range(1, len(tables)):
            widths = product(np.unique(self.width[stage - 1]).tolist(), np.unique(self.width[stage]).tolist())
            pools = {pair: pool_cost(tokens[stage], *pair) for pair in widths}
            self.links.append({pair: (cost.flops, cost.params) for pair, cost in pools.items()})

    def _stem_costs(self, space: SearchSpace, width: IntArray) -> tuple[IntArray, IntArray]:
        """Returns the FLOPs and parameters of the stem of every choice of stage 1; `width` is that of its rows."""
        costs = [
            stem_cost(
                space.image_size, space.channels, paper_stem_width(width) if stem.width is None else stem.width,
                space.stem.strides, width, stem.kind, stem.norm,
            )
            for stem in self.stems
        ]  # fmt: skip
        return np.concatenate([cost.flops for cost in costs]), np.concatenate([cost.params for cost in costs])

    def cost(self, choices: tuple[int, ...]) -> tuple[int, int]:
        """Returns FLOPs and parameters of a network."""
        flops = sum(int(costs[choice]) for costs, choice in zip(self.flops, choices, strict=True))
        params = sum(int(costs[choice]) for costs, choice in zip(self.params, choices, strict=True))
        widths = [int(width[choice]) for width, choice in zip(self.width, choices, strict=True)]
        for link, pair in zip(self.links, pairwise(widths), strict=True):
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
        first, *others = space.rows_of(arch)
        return self.stems.index(space.stem_of(arch)) * self.rows[0] + first, *others

    def network(self, space: SearchSpace, choices: tuple[int, ...]) -> ArchConfig:
        """Builds the architecture of one choice per stage; `space` must be the one that was costed."""
        stem, row = divmod(choices[0], self.rows[0])
        return space.network((row, *choices[1:]), self.stems[stem])


def choice_costs_of(space: SearchSpace) -> ChoiceCosts:
    """Returns the costs of a space's choices, computed once per space."""
    return space.tables.get(ChoiceCosts, lambda: ChoiceCosts(space))
