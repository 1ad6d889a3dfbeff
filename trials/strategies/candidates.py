"""The candidates of a search that are still to be had: inside the budget, and not asked before."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sret_nas.arch import ArchConfig
from sret_nas.budget import Budget
from sret_nas.cost import cost_of
from sret_nas.feasible import FeasibleSet
from sret_nas.space import DepthSchedule, SearchSpace, Value, canonical_schedule
from trials.strategies import Candidate

MAX_REDRAWS = 200
"""Draws that may turn out to be known before the remaining candidates are listed one by one."""


class CandidatePool:
    """Decides which candidates may be proposed, and draws new ones. Equal seeds draw equal sequences.

    Raises `BudgetError` if no network of the space meets the budget.
    """

    def __init__(self, space: SearchSpace, budget: Budget, seed: int) -> None:
        self.space = space
        self.budget = budget
        self._feasible = FeasibleSet(space, budget)
        self._feasible.check()
        self._rng = np.random.default_rng(seed)
        self._asked: set[tuple[str, str]] = set()

    def candidate(self, arch: ArchConfig, schedule: DepthSchedule) -> Candidate:
        """A network with the one spelling of its schedule: with a single recursion, every schedule is `full`."""
        return Candidate(arch, canonical_schedule(arch, schedule))

    def is_open(self, candidate: Candidate) -> bool:
        """Whether a member of the space is inside the budget and was not asked before."""
        return self.excess(candidate.arch) == 0 and candidate.key not in self._asked

    def excess(self, arch: ArchConfig) -> float:
        """By what share a network breaks the budget; 0 inside it."""
        cost = cost_of(arch)
        return self.budget.excess(cost.flops, cost.params)

    def decode(self, values: Mapping[str, Value]) -> Candidate | None:
        """The candidate that one value per dimension of the space spells; None if that is no legal network."""
        arch = self.space.decode(values)
        return None if arch is None else self.candidate(arch, values["depth_schedule"])  # type: ignore[arg-type]

    def claim(self, candidate: Candidate) -> None:
        """Marks a candidate as asked."""
        self._asked.add(candidate.key)

    def draw(self) -> Candidate | None:
        """An open candidate, uniform over the feasible networks, then over its schedules; None if there is none."""
        for _ in range(MAX_REDRAWS):
            arch = self._feasible.sample(self._rng)
            schedules = self.space.effective_schedules(arch)
            candidate = self.candidate(arch, schedules[self._rng.integers(len(schedules))])
            if candidate.key not in self._asked:
                return candidate
        remaining = self._remaining()
        return remaining[self._rng.integers(len(remaining))] if remaining else None

    def _remaining(self) -> list[Candidate]:
        """Every open candidate. Only sets that a search can nearly exhaust are ever listed, and those are small."""
        candidates = (
            self.candidate(arch, schedule)
            for arch in self._feasible
            for schedule in self.space.effective_schedules(arch)
        )
        return [candidate for candidate in candidates if candidate.key not in self._asked]


def encode(candidate: Candidate, space: SearchSpace) -> dict[str, Value]:
    """One value per dimension of the space that spells the candidate."""
    return {**space.encode(candidate.arch), "depth_schedule": candidate.depth_schedule}
