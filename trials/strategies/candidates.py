"""The open candidates of a search: those inside the budget that were not asked before."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic

import numpy as np

from .domain import C, Domain

MAX_REDRAWS = 200
"""Draws of known candidates after which `draw` lists the remaining ones, and `draw_stratified` gives up."""


class CandidatePool(Generic[C]):
    """Keeps the set of asked candidates, and draws from the others. Equal seeds give equal sequences."""

    def __init__(self, domain: Domain[C], seed: int) -> None:
        self.domain = domain
        self._rng = np.random.default_rng(seed)
        self._asked: set[Hashable] = set()

    def is_open(self, candidate: C) -> bool:
        """Returns whether a candidate is inside the budget and was not asked before."""
        return candidate.key not in self._asked and self.domain.excess(candidate) == 0

    def claim(self, candidate: C) -> None:
        """Marks a candidate as asked."""
        self._asked.add(candidate.key)

    def draw(self) -> C | None:
        """Returns a uniform draw from the open candidates; None if there is none left."""
        for _ in range(MAX_REDRAWS):
            candidate = self.domain.draw(self._rng)
            if candidate.key not in self._asked:
                return candidate
        remaining = self.remaining()
        return remaining[self._rng.integers(len(remaining))] if remaining else None

    def draw_stratified(self, number: int, by: str) -> list[C]:
        """Returns up to `number` distinct open candidates, stratified over the logarithm of the cost named `by`.

        If most draws are known there may be fewer, even none, although `draw` still finds open candidates.
        """
        return self._distinct(number, lambda missing: self.domain.draw_stratified(self._rng, missing, by))

    def draw_start(self, number: int, by: str) -> list[C]:
        """Returns up to `number` distinct open candidates to begin with (`Domain.draw_start`), or fewer, as above."""
        return self._distinct(number, lambda missing: self.domain.draw_start(self._rng, missing, by))

    def _distinct(self, number: int, draw: Callable[[int], list[C]]) -> list[C]:
        drawn: dict[Hashable, C] = {}
        draws_left = number + MAX_REDRAWS
        while len(drawn) < number and draws_left > 0:
            missing = min(number - len(drawn), draws_left)
            draws_left -= missing
            for candidate in draw(missing):
                if candidate.key not in self._asked:
                    drawn.setdefault(candidate.key, candidate)
        return list(drawn.values())

    def remaining(self) -> list[C]:
        """Returns all open candidates. It is called only when a search has nearly exhausted a domain, a small one."""
        return [candidate for candidate in self.domain if candidate.key not in self._asked]
