"""The GPTs of a space within bounds on their parameters, as a domain of strategies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import pairwise, product

import numpy as np

from benchmarks.search.gpt import GPT, GPTSpace
from benchmarks.search.gpt_sums import Cells, sums_of
from sret_nas.errors import BudgetError
from sret_nas.space.chain import Chain, Point
from sret_nas.space.search_space import Value
from trials.strategies.domain import Domain

NUM_STRATA = 16


class GPTDomain(Domain[GPT]):
    """The GPTs of a space with `least` to `most` parameters. Raises `BudgetError` if there is none."""

    def __init__(self, space: GPTSpace, least: float = 0, most: float = math.inf) -> None:
        self.space = space
        self._bounds = (least, most)
        self._sums = sums_of(space)
        self._cells = self._sums.cells.inside(least, most)
        if len(self._cells.params) == 0:
            raise BudgetError(f"no network of the space has {least:,.0f} to {most:,.0f} parameters; widen the budget")

    @property
    def count(self) -> float:
        """Networks inside the budget."""
        return float(self._cells.count.sum())

    @cached_property
    def dimensions(self) -> Mapping[str, tuple[Value, ...]]:
        space, layers = self.space, range(self.space.most_layers)
        return {
            "embed": space.embeds,
            "layers": space.layers,
            "bias": space.biases,
            **{f"mlp.{at}": space.mlp_ratios for at in layers},
            **{f"heads.{at}": space.heads for at in layers},
        }

    def decode(self, values: Mapping[str, Value]) -> GPT:
        layers = range(int(values["layers"]))
        return GPT(
            int(values["embed"]),
            bool(values["bias"]),
            tuple(float(values[f"mlp.{at}"]) for at in layers),
            tuple(int(values[f"heads.{at}"]) for at in layers),
        )

    def encode(self, candidate: GPT) -> dict[str, Value]:
        """Encodes networks; absent layers take the first choices."""
        ratios, heads = dict(enumerate(candidate.mlp_ratios)), dict(enumerate(candidate.heads))
        layers = range(self.space.most_layers)
        return {
            "embed": candidate.embed,
            "layers": len(heads),
            "bias": candidate.bias,
            **{f"mlp.{at}": ratios.get(at, self.space.mlp_ratios[0]) for at in layers},
            **{f"heads.{at}": heads.get(at, self.space.heads[0]) for at in layers},
        }

    def costs(self, candidate: GPT) -> tuple[float, ...]:
        return (self.space.params(candidate),)

    def excess(self, candidate: GPT) -> float:
        (least, most), params = self._bounds, self.space.params(candidate)
        return max(0.0, params / most - 1, least / params - 1)

    def draw(self, rng: np.random.Generator) -> GPT:
        return self._sums.draw(self._cells, rng)

    def draw_stratified(self, rng: np.random.Generator, number: int, by: str) -> list[GPT]:
        """Draws as `sret_nas.feasible.stratified`: as many from each stratum, give or take one, in random order."""
        rounds = -(-number // len(self.strata))
        order = np.concatenate([rng.permutation(len(self.strata)) for _ in range(rounds)])[:number] if number else ()
        return [self._sums.draw(self.strata[at], rng) for at in order]

    @cached_property
    def strata(self) -> tuple[Cells, ...]:
        """At most 16 groups of networks, of equal width in the logarithm of the parameters; empty ones left
        out."""
        edges = np.geomspace(self._cells.params.min(), self._cells.params.max() + 1, NUM_STRATA + 1).round()
        windows = (self._cells.inside(low, high - 1) for low, high in pairwise(edges))
        return tuple(cells for cells in windows if len(cells.params))

    def __iter__(self) -> Iterator[GPT]:
        for embed, layers, bias in self.space.states:
            for ratios in product(self.space.mlp_ratios, repeat=layers):
                for heads in product(self.space.heads, repeat=layers):
                    if self.excess(network := GPT(embed, bias, ratios, heads)) == 0:
                        yield network

    @property
    def chain(self) -> Chain:
        return self.space.chain

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        return (self._bounds,)

    def point(self, candidate: GPT) -> Point:
        return self.space.point(candidate)

    def candidate(self, point: Point) -> GPT:
        return self.space.network_at(point)
