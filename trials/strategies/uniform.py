"""Random search: uniform over the networks inside the budget, without repetition. The baseline to beat."""

from __future__ import annotations

from trials.strategies import Candidate, Strategy
from trials.strategies.candidates import CandidatePool


class RandomStrategy(Strategy):
    """Learns nothing, which makes it hard to fool."""

    def __init__(self, pool: CandidatePool) -> None:
        self._pool = pool

    def ask(self) -> Candidate | None:
        candidate = self._pool.draw()
        if candidate is not None:
            self._pool.claim(candidate)
        return candidate

    def tell(self, candidate: Candidate, values: tuple[float, ...] | None) -> None:
        """Nothing is learned."""
