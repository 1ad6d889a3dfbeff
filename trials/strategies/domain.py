"""The interface of a search domain: dimensions, exact costs, budget bounds, and how to draw candidates.

Strategies see candidates only through it, so the same code searches SReTs and the public benchmarks of other networks.
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
        """The identity of a candidate: equal keys mean equal candidates."""


C = TypeVar("C", bound=HasKey)
"""A candidate; in searches of SReTs a `trials.strategies.strategy.Candidate`."""


class Domain(ABC, Generic[C]):
    """The candidates inside a budget. Their costs are exact and named by `chain.cost_names`."""

    @property
    @abstractmethod
    def dimensions(self) -> Mapping[str, tuple[Value, ...]]:
        """Categorical dimensions by name. Several assignments of values may encode the same candidate."""

    @abstractmethod
    def decode(self, values: Mapping[str, Value]) -> C | None:
        """Returns the candidate that one value per dimension encodes; None if they encode none."""

    @abstractmethod
    def encode(self, candidate: C) -> dict[str, Value]:
        """Returns one value per dimension, which `decode` turns into an equal candidate."""

    @abstractmethod
    def costs(self, candidate: C) -> tuple[float, ...]:
        """Returns the candidate's costs, in the order of `chain.cost_names`."""

    @abstractmethod
    def excess(self, candidate: C) -> float:
        """Returns the relative amount by which a candidate exceeds the budget; 0 inside it."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> C:
        """Returns a uniform draw from the feasible networks."""

    @abstractmethod
    def draw_stratified(self, rng: np.random.Generator, number: int, by: str) -> list[C]:
        """Returns `number` draws, stratified over the logarithm of the cost named `by`; some may be equal."""

    def draw_start(self, rng: np.random.Generator, number: int, by: str) -> list[C]:
        """Returns `number` draws from which a model of the domain is learned first; some may be equal."""
        return self.draw_stratified(rng, number, by)

    @abstractmethod
    def __iter__(self) -> Iterator[C]:
        """Yields all feasible candidates, each once. There may be 1e12 of them."""

    @property
    def members(self) -> Sequence[C] | None:
        """All feasible candidates if they are a short list, such as a table of results; else None."""
        return None

    @property
    @abstractmethod
    def chain(self) -> Chain:
        """The chain whose points are the candidates; costs add along it."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """The budget's (minimum, maximum) of each cost of the chain; a maximum may be infinite."""

    @abstractmethod
    def point(self, candidate: C) -> Point:
        """Returns the candidate's point of the chain; if there are several, always the same one."""

    @abstractmethod
    def candidate(self, point: Point) -> C:
        """Returns the candidate at a point of the chain."""
