"""What a strategy knows of the candidates before it has tried any: dimensions, costs, the budget, and how to draw.

Strategies see nothing else, so that the same code searches SReTs and the public benchmarks of other networks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from sret_nas.space.chain import Chain, Point
from sret_nas.space.search_space import Value


class HasKey(Protocol):
    @property
    def key(self) -> Hashable:
        """Equal for candidates that are the same trial."""


C = TypeVar("C", bound=HasKey)
"""A candidate: for searches of SReTs, `trials.strategies.Candidate`."""


class Domain(ABC, Generic[C]):
    """The candidates inside a budget. Costs are exact, known beforehand, and named by `chain.cost_names`."""

    @property
    @abstractmethod
    def dimensions(self) -> Mapping[str, tuple[Value, ...]]:
        """Flat categorical dimensions, in which several spellings may mean one candidate."""

    @abstractmethod
    def decode(self, values: Mapping[str, Value]) -> C | None:
        """The candidate that one value per dimension spells; None if they spell none."""

    @abstractmethod
    def encode(self, candidate: C) -> dict[str, Value]:
        """One value per dimension that `decode` turns into an equal candidate."""

    @abstractmethod
    def costs(self, candidate: C) -> tuple[float, ...]:
        """The candidate's costs, in the order of `chain.cost_names`."""

    @abstractmethod
    def excess(self, candidate: C) -> float:
        """By what share a candidate breaks the budget; 0 inside it."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> C:
        """A candidate, uniform over the feasible networks."""

    @abstractmethod
    def draw_stratified(self, rng: np.random.Generator, number: int, by: str) -> list[C]:
        """Candidates spread evenly over the logarithm of a cost, each uniform in its stratum; some may be equal."""

    @abstractmethod
    def __iter__(self) -> Iterator[C]:
        """All feasible candidates, each once. There may be 1e12 of them."""

    @property
    def members(self) -> Sequence[C] | None:
        """All feasible candidates where they are a short list (a table of results); None where only draws are."""
        return None

    @property
    @abstractmethod
    def chain(self) -> Chain:
        """The candidates as points of a chain of stages whose costs add."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """What the budget allows of each cost of the chain, (least, most), possibly infinite."""

    @abstractmethod
    def point(self, candidate: C) -> Point:
        """The candidate as a point of the chain: of several that mean it, always the same."""

    @abstractmethod
    def candidate(self, point: Point) -> C:
        """The candidate that a point of the chain means."""
