"""Cost-stratified candidates: the initial design of the learning strategies, and a strategy of its own.

Uniform draws concentrate at medium cost, where most networks are, but a front runs from the cheapest network to the
most expensive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic

from .candidates import CandidatePool
from .domain import C, Domain
from .strategy import Strategy

DRAWS = 64
"""Candidates drawn at once: four rounds of the 16 strata, so that all strata get equal shares."""


def cost_to_spread(domain: Domain[C], objectives: Sequence[str]) -> str:
    """Returns the cost to stratify by: the first cost among the objectives, else the domain's first."""
    names = domain.chain.cost_names
    return next((objective for objective in objectives if objective in names), names[0])


class StratifiedDesign(Generic[C]):
    """Draws open candidates in shuffled rounds of one per stratum of log-cost, uniformly within a stratum."""

    def __init__(self, pool: CandidatePool[C], by: str) -> None:
        self._pool = pool
        self._by = by
        self._drawn: deque[C] = deque()

    def draw(self) -> C | None:
        """Returns the next open candidate, which the caller must claim; None if there is none left."""
        while self._drawn:
            candidate = self._drawn.popleft()
            if self._pool.is_open(candidate):
                return candidate
        self._drawn.extend(self._pool.draw_stratified(DRAWS, self._by))
        return self._drawn.popleft() if self._drawn else self._pool.draw()


class StratifiedStrategy(Strategy[C]):
    """Proposes the design and ignores results: the baseline of the strategies that start from the same design."""

    def __init__(self, pool: CandidatePool[C], objectives: Sequence[str]) -> None:
        self._pool = pool
        self._design = StratifiedDesign(pool, cost_to_spread(pool.domain, objectives))

    def ask(self) -> C | None:
        candidate = self._design.draw()
        if candidate is not None:
            self._pool.claim(candidate)
        return candidate

    def tell(self, candidate: C, values: tuple[float, ...] | None) -> None:
        """Ignores the result."""
