"""Random search: uniform over the networks inside the budget, without repetition. The baseline to beat."""

from __future__ import annotations

from .candidates import CandidatePool
from .domain import C
from .strategy import Strategy


class RandomStrategy(Strategy[C]):
    """Learns nothing, which makes it hard to fool."""

    def __init__(self, pool: CandidatePool[C]) -> None:
        self._pool = pool

    def ask(self) -> C | None:
        candidate = self._pool.draw()
        if candidate is not None:
            self._pool.claim(candidate)
        return candidate

    def tell(self, candidate: C, values: tuple[float, ...] | None) -> None:
        """Nothing is learned."""
