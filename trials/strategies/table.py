"""The domain of a table of results: another domain, restricted to the candidates that the table lists.

Strategies are compared on it where every result is known beforehand; they never propose a candidate without a result.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sret_nas.errors import BudgetError
from sret_nas.space.chain import Chain, Point
from sret_nas.space.search_space import Value

from .domain import C, Domain

NUM_STRATA = 16
"""Strata of equal width in the logarithm of a cost, as in `sret_nas.feasible.stratified`; empty ones are left out."""


class TableDomain(Domain[C]):
    """The listed candidates of `base` inside its budget, without duplicates, in the order listed.

    Dimensions, costs, budget and chain are those of `base`.
    """

    def __init__(self, base: Domain[C], candidates: Sequence[C]) -> None:
        """Raises `BudgetError` if no candidate is inside the budget."""
        self._base = base
        self._by_key: dict[Hashable, C] = {
            candidate.key: candidate for candidate in candidates if base.excess(candidate) == 0
        }
        if not self._by_key:
            raise BudgetError(f"none of the {len(candidates)} candidates of the table lies inside the budget")
        self._members = tuple(self._by_key.values())
        self._strata: dict[str, list[npt.NDArray[np.intp]]] = {}

    @property
    def members(self) -> Sequence[C]:
        return self._members

    @property
    def dimensions(self) -> Mapping[str, tuple[Value, ...]]:
        return self._base.dimensions

    def decode(self, values: Mapping[str, Value]) -> C | None:
        """Returns the member that the values encode; None if they encode none."""
        candidate = self._base.decode(values)
        return None if candidate is None else self._by_key.get(candidate.key)

    def encode(self, candidate: C) -> dict[str, Value]:
        return self._base.encode(candidate)

    def costs(self, candidate: C) -> tuple[float, ...]:
        return self._base.costs(candidate)

    def excess(self, candidate: C) -> float:
        """Returns the excess of `base`, but infinity for a candidate that is not in the table."""
        return 0.0 if candidate.key in self._by_key else self._base.excess(candidate) or float("inf")

    def draw(self, rng: np.random.Generator) -> C:
        return self._members[rng.integers(len(self._members))]

    def draw_stratified(self, rng: np.random.Generator, number: int, by: str) -> list[C]:
        """Returns rounds of one draw per stratum, in random order; empty strata are left out."""
        if by not in self._strata:
            self._strata[by] = self._strata_of(by)
        strata = self._strata[by]
        num_rounds = -(-number // len(strata))
        order = np.concatenate([rng.permutation(len(strata)) for _ in range(num_rounds)] or [np.zeros(0, dtype=int)])
        return [self._members[int(rng.choice(strata[stratum]))] for stratum in order[:number].tolist()]

    def _strata_of(self, by: str) -> list[npt.NDArray[np.intp]]:
        """Returns the positions of the members in each stratum that is not empty."""
        column = self.chain.cost_names.index(by)
        costs = np.log([self.costs(member)[column] for member in self._members])
        edges = np.linspace(costs.min(), costs.max(), NUM_STRATA + 1)[1:-1]
        stratum = np.searchsorted(edges, costs, side="right")
        return [np.flatnonzero(stratum == occupied) for occupied in np.unique(stratum)]

    def __iter__(self) -> Iterator[C]:
        return iter(self._members)

    @property
    def chain(self) -> Chain:
        return self._base.chain

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        return self._base.bounds

    def point(self, candidate: C) -> Point:
        return self._base.point(candidate)

    def candidate(self, point: Point) -> C:
        """Returns the member at a point. Raises `KeyError` if there is none."""
        return self._by_key[self._base.candidate(point).key]
