"""The contract of strategies: `ask` for a candidate, `tell` what became of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Literal

from sret_nas.arch.config import ArchConfig
from sret_nas.space.search_space import DepthSchedule

from .domain import C

StrategyName = Literal["random", "stratified", "nsga2", "nsga2_design", "tpe", "evolution", "additive"]


@dataclass(frozen=True)
class Candidate:
    """What a trial tries: an architecture and the mixed-depth schedule to train it with."""

    arch: ArchConfig
    depth_schedule: DepthSchedule

    @cached_property
    def key(self) -> tuple[str, str]:
        """Equal for candidates that are the same network trained in the same way."""
        return self.arch.arch_id, self.depth_schedule


class Strategy(ABC, Generic[C]):
    """Proposes candidates and learns from their objective values, all of which are to be made small."""

    origin: str = ""
    """Where the candidate that was asked last comes from, for the record; empty where there is nothing to tell."""

    @abstractmethod
    def ask(self) -> C | None:
        """A feasible candidate that was not asked before; None once every one was."""

    @abstractmethod
    def tell(self, candidate: C, values: tuple[float, ...] | None) -> None:
        """The objective values of a candidate that was asked, or None if its trial failed or was stopped early."""

    def tell_partial(self, candidate: C, rung: int, values: tuple[float, ...]) -> None:
        """The objective values of a candidate whose trial has come to a rung before its end: it goes on, or it is
        stopped, and then `tell` follows. They are no final ones; a strategy that cannot tell them apart ignores them.
        """
