"""The candidates of a search that are still to be had: inside the budget, and not asked before."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic

import numpy as np

from .domain import C, Domain

MAX_REDRAWS = 200
"""Draws that may turn out to be known before other means are taken: for one draw, listing what remains."""


class CandidatePool(Generic[C]):
    """Decides which candidates of a domain may be proposed, and draws new ones. Equal seeds draw equal sequences."""

    def __init__(self, domain: Domain[C], seed: int) -> None:
        self.domain = domain
        self._rng = np.random.default_rng(seed)
        self._asked: set[Hashable] = set()

    def is_open(self, candidate: C) -> bool:
        """Whether a candidate is inside the budget and was not asked before."""
        return candidate.key not in self._asked and self.domain.excess(candidate) == 0

    def claim(self, candidate: C) -> None:
        """Marks a candidate as asked."""
        self._asked.add(candidate.key)

    def draw(self) -> C | None:
        """An open candidate, uniform over the feasible networks; None if there is none left."""
        for _ in range(MAX_REDRAWS):
            candidate = self.domain.draw(self._rng)
            if candidate.key not in self._asked:
                return candidate
        remaining = self.remaining()
        return remaining[self._rng.integers(len(remaining))] if remaining else None

    def draw_stratified(self, number: int, by: str) -> list[C]:
        """Up to `number` different open candidates, spread evenly over the logarithm of a cost.

        Fewer, even none, where most draws are known; `draw` still finds what is open then.
        """
        found: dict[Hashable, C] = {}
        draws_left = number + MAX_REDRAWS
        while len(found) < number and draws_left > 0:
            missing = min(number - len(found), draws_left)
            draws_left -= missing
            for candidate in self.domain.draw_stratified(self._rng, missing, by):
                if candidate.key not in self._asked:
                    found.setdefault(candidate.key, candidate)
        return list(found.values())

    def remaining(self) -> list[C]:
        """Every open candidate. Only sets that a search can nearly exhaust are ever listed, and those are small."""
        return [candidate for candidate in self.domain if candidate.key not in self._asked]
