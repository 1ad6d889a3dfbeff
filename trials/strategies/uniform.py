"""Random search: draws uniformly from the networks inside the budget, without repetition. The baseline to beat."""

from __future__ import annotations

from .candidates import CandidatePool
from .domain import C
from .strategy import Strategy


class RandomStrategy(Strategy[C]):
    """Proposes uniform draws and ignores results."""

    def __init__(self, pool: CandidatePool[C]) -> None:
        self._pool = pool

    def ask(self) -> C | None:
        candidate = self._pool.draw()
        if candidate is not None:
            self._pool.claim(candidate)
        return candidate

    def tell(self, candidate: C, values: tuple[float, ...] | None) -> None:
        """Ignores the result."""
