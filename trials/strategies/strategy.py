"""The interface of strategies: `ask` proposes a candidate, `tell` takes its result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Literal, Self

from sret_nas.arch.config import ArchConfig
from sret_nas.space.search_space import DepthSchedule

from .candidates import CandidatePool
from .domain import C

StrategyName = Literal[
    "random", "stratified", "nsga2", "nsga2_design", "tpe", "gp", "gp_design", "evolution", "additive"
]


@dataclass(frozen=True)
class Candidate:
    """The subject of a trial: an architecture, and the mixed-depth schedule that trains it."""

    arch: ArchConfig
    depth_schedule: DepthSchedule

    @cached_property
    def key(self) -> tuple[str, str]:
        """The identity of the candidate: the architecture's id and the schedule."""
        return self.arch.arch_id, self.depth_schedule

    @classmethod
    def with_key(cls, arch: ArchConfig, depth_schedule: DepthSchedule, key: tuple[str, str]) -> Self:
        """Returns a candidate whose `key` is known, which saves computing it."""
        candidate = cls(arch, depth_schedule)
        candidate.__dict__["key"] = key
        return candidate


class Strategy(ABC, Generic[C]):
    """Proposes candidates, and learns from their objective values, which are all minimised."""

    _pool: CandidatePool[C]
    """The open candidates, which every strategy proposes from."""

    origin: str = ""
    """The part of the strategy that proposed the last candidate, for the records; empty if there is only one."""

    @abstractmethod
    def ask(self) -> C | None:
        """Returns a feasible candidate that was not asked before; None once there is none left."""

    @abstractmethod
    def tell(self, candidate: C, values: tuple[float, ...] | None) -> None:
        """Takes the final objective values of an asked candidate; None if its trial failed or was stopped early."""

    def adopt(self, candidate: C) -> None:
        """Takes an open candidate that somebody else proposes as if it had been asked for here: `tell` follows."""
        self._pool.claim(candidate)

    def exclude(self, candidate: C) -> None:
        """Never proposes a candidate, because the search tried it for a reason of its own."""
        self._pool.claim(candidate)

    def tell_partial(self, candidate: C, rung: int, values: tuple[float, ...]) -> None:
        """Takes the objective values of a candidate at a rung before its end. By default they are ignored.

        They are not final. If the trial is stopped at this rung, `tell` follows with None.
        """
