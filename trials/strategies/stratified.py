"""Candidates spread evenly over cost: the start of the strategies that learn, and a strategy that does not.

Uniform draws pile up in the middle, where most networks are; a front runs from the cheapest to the most expensive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic

from .candidates import CandidatePool
from .domain import C, Domain
from .strategy import Strategy

DRAWS = 64
"""Candidates drawn at once: four rounds of the 16 strata, so that over many each stratum gets its share."""


def cost_to_spread(domain: Domain[C], objectives: Sequence[str]) -> str:
    """The cost over which candidates are spread: the first among the objectives, else the domain's first."""
    names = domain.chain.cost_names
    return next((objective for objective in objectives if objective in names), names[0])


class StratifiedDesign(Generic[C]):
    """Open candidates in rounds of one per stratum of log-cost, shuffled; uniform within a stratum."""

    def __init__(self, pool: CandidatePool[C], by: str) -> None:
        self._pool = pool
        self._by = by
        self._drawn: deque[C] = deque()

    def draw(self) -> C | None:
        """The design's next candidate that is open, to be claimed by the caller; None if there is none left."""
        while self._drawn:
            candidate = self._drawn.popleft()
            if self._pool.is_open(candidate):
                return candidate
        self._drawn.extend(self._pool.draw_stratified(DRAWS, self._by))
        return self._drawn.popleft() if self._drawn else self._pool.draw()


class StratifiedStrategy(Strategy[C]):
    """Learns nothing: the honest baseline of those that do, since what it finds is the design's merit alone."""

    def __init__(self, pool: CandidatePool[C], objectives: Sequence[str]) -> None:
        self._pool = pool
        self._design = StratifiedDesign(pool, cost_to_spread(pool.domain, objectives))

    def ask(self) -> C | None:
        candidate = self._design.draw()
        if candidate is not None:
            self._pool.claim(candidate)
        return candidate

    def tell(self, candidate: C, values: tuple[float, ...] | None) -> None:
        """Nothing is learned."""
