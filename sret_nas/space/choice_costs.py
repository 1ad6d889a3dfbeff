"""What every choice in a space costs: FLOPs and parameters of a network are sums over its choices and its poolings.

A network of a space is written as its *choices*: one number per stage, a row of the stage's table, in stage 1 with the
width of the stem. Such tuples are what is counted, drawn and compared; `ChoiceCosts.network` makes architectures of
them.
"""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np

from sret_nas.arch.config import ArchConfig, paper_stem_width
from sret_nas.arch.cost import head_terms, pool_terms, stem_terms
from sret_nas.space.search_space import SearchSpace

Links = dict[tuple[int, int], tuple[int, int]]
"""FLOPs and parameters of the pooling between two widths."""


class ChoiceCosts:
    """The costs of a space's choices: stem and stage 1 together, pooling, last stage and head together.

    `flops[s]` and `params[s]` are arrays over the choices of stage s; a choice of stage 1 is `stem * rows + row`.
    """

    def __init__(self, space: SearchSpace) -> None:
        tables, tokens = space.stage_choices, space.num_tokens
        self.stem_widths = space.stem.width
        self.rows = [len(table) for table in tables]
        stems = len(self.stem_widths or (None,))
        self.width = [np.tile(tables[0].columns.width, stems), *(table.columns.width for table in tables[1:])]
        self.flops = [np.tile(tables[0].flops, stems), *(table.flops for table in tables[1:])]
        self.params = [np.tile(tables[0].params, stems), *(table.params for table in tables[1:])]

        stem_width = paper_stem_width(self.width[0])
        if self.stem_widths:
            stem_width = np.repeat(np.array(self.stem_widths, dtype=np.int64), self.rows[0])
        stem = stem_terms(space.image_size, space.channels, stem_width, space.stem.strides, self.width[0])
        head = head_terms(tokens[-1], self.width[-1], space.classes)
        for stage, terms in ((0, stem), (len(tables) - 1, head)):
            self.flops[stage] = self.flops[stage] + terms.flops
            self.params[stage] = self.params[stage] + terms.params

        self.links: list[Links] = []
        for stage in range(1, len(tables)):
            widths = product(np.unique(self.width[stage - 1]).tolist(), np.unique(self.width[stage]).tolist())
            pools = {pair: pool_terms(tokens[stage], *pair) for pair in widths}
            self.links.append({pair: (terms.flops, terms.params) for pair, terms in pools.items()})

    def cost(self, choices: tuple[int, ...]) -> tuple[int, int]:
        """FLOPs and parameters of the network made of one choice per stage."""
        flops = sum(int(costs[choice]) for costs, choice in zip(self.flops, choices, strict=True))
        params = sum(int(costs[choice]) for costs, choice in zip(self.params, choices, strict=True))
        widths = [int(width[choice]) for width, choice in zip(self.width, choices, strict=True)]
        for link, pair in zip(self.links, pairwise(widths), strict=True):
            flops, params = flops + link[pair][0], params + link[pair][1]
        return flops, params

    def choices(self, space: SearchSpace, arch: ArchConfig) -> tuple[int, ...]:
        """The choices that make a network of the space. Raises `UserError` if it is not in the space."""
        first, *others = space.rows_of(arch)
        stem = self.stem_widths.index(arch.stem.width) if self.stem_widths else 0
        return stem * self.rows[0] + first, *others

    def network(self, space: SearchSpace, choices: tuple[int, ...]) -> ArchConfig:
        """The architecture made of one choice per stage of the space that was costed."""
        stem, row = divmod(choices[0], self.rows[0])
        return space.network((row, *choices[1:]), self.stem_widths[stem] if self.stem_widths else None)


def choice_costs_of(space: SearchSpace) -> ChoiceCosts:
    """Returns the costs of a space's choices, which the space keeps."""
    return space.tables.get(ChoiceCosts, lambda: ChoiceCosts(space))
