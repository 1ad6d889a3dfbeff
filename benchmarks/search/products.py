"""Spaces of a few attributes that combine freely, with costs that add up: what made-up landscapes are defined on."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from sret_nas.arrays import IntArray
from sret_nas.space.chain import Chain, ChainStage, Point
from sret_nas.space.search_space import Value
from trials.strategies.domain import Domain
from trials.strategies.table import TableDomain


@dataclass(frozen=True)
class Choices:
    """One network: the level of each attribute."""

    levels: tuple[int, ...]

    @property
    def key(self) -> Hashable:
        return self.levels


class ProductDomain(Domain[Choices]):
    """All combinations of levels, without a budget. Each attribute is a stage of the chain."""

    def __init__(self, costs: Sequence[Sequence[int]]) -> None:
        """Takes the cost of each level of each attribute, which are whole numbers above 0."""
        self._costs = [np.array(of_attribute) for of_attribute in costs]

    @cached_property
    def dimensions(self) -> Mapping[str, tuple[Value, ...]]:
        return {f"attribute.{at}": tuple(range(len(costs))) for at, costs in enumerate(self._costs)}

    def decode(self, values: Mapping[str, Value]) -> Choices:
        return Choices(tuple(int(values[name]) for name in self.dimensions))

    def encode(self, candidate: Choices) -> dict[str, Value]:
        return dict(zip(self.dimensions, candidate.levels, strict=True))

    def costs(self, candidate: Choices) -> tuple[float, ...]:
        return (float(sum(costs[level] for costs, level in zip(self._costs, candidate.levels, strict=True))),)

    def excess(self, candidate: Choices) -> float:
        return 0.0

    def draw(self, rng: np.random.Generator) -> Choices:
        return self._all.draw(rng)

    def draw_stratified(self, rng: np.random.Generator, number: int, by: str) -> list[Choices]:
        return self._all.draw_stratified(rng, number, by)

    @cached_property
    def _all(self) -> TableDomain[Choices]:
        return TableDomain(self, list(self))

    def __iter__(self) -> Iterator[Choices]:
        return (Choices(levels) for levels in product(*(range(len(costs)) for costs in self._costs)))

    @cached_property
    def every(self) -> IntArray:
        """All networks as levels, of shape (n, attributes)."""
        return np.array(list(product(*(range(len(costs)) for costs in self._costs))))

    @cached_property
    def chain(self) -> Chain:
        stages = [
            ChainStage(np.zeros(len(of_level), dtype=np.int64), of_level[:, None], (f"a{at}",), levels[:, None])
            for at, (of_level, levels) in enumerate((costs, np.arange(len(costs))) for costs in self._costs)
        ]
        return Chain(("cost",), tuple(stages), ({(0, 0): (0,)},) * (len(stages) - 1))

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        return ((0, float("inf")),)

    def point(self, candidate: Choices) -> Point:
        return candidate.levels

    def candidate(self, point: Point) -> Choices:
        return Choices(tuple(point))
