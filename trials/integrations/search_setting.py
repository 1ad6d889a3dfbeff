"""What defines a strategy's sequence, checked and as plain data: the same in every framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self, get_args

from sret_nas.arch.budget import Budget
from sret_nas.errors import UserError
from sret_nas.space.search_space import SearchSpace

from ..strategies.create import create_strategy
from ..strategies.sret import SReTDomain
from ..strategies.strategy import Candidate, Strategy, StrategyName


@dataclass(frozen=True)
class SearchSetting:
    """A strategy by its name, the networks that it searches, and what is to be made small."""

    strategy: StrategyName
    space: SearchSpace
    budget: Budget
    objectives: tuple[str, ...]
    seed: int
    population: int

    @classmethod
    def of(
        cls,
        strategy: StrategyName,
        space: str | SearchSpace,
        budget: Budget,
        *,
        objectives: Sequence[str],
        seed: int,
        population: int,
    ) -> Self:
        """Raises `UserError` for a strategy, a space or objectives that cannot be."""
        if strategy not in get_args(StrategyName):
            raise UserError(f"strategy must be one of {', '.join(get_args(StrategyName))}, got {strategy!r}")
        if isinstance(objectives, str) or not objectives or len(set(objectives)) < len(objectives):
            raise UserError(f"objectives must be different names, such as ('error', 'flops'), got {objectives!r}")
        if population < 2 or seed < 0:
            raise UserError(f"population must be at least 2, seed at least 0, got {population} and {seed}")
        loaded = SearchSpace.load(space) if isinstance(space, str) else space
        return cls(strategy, loaded, budget, tuple(objectives), seed, population)

    @cached_property
    def domain(self) -> SReTDomain:
        return SReTDomain(self.space, self.budget)

    def start(self) -> Strategy[Candidate]:
        """A fresh strategy, at the beginning of its sequence. Raises `BudgetError` for an impossible budget."""
        return create_strategy(
            self.strategy, self.domain, self.objectives, seed=self.seed, population=self.population
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain data: equal for settings whose sequences are equal."""
        return {
            "strategy": self.strategy,
            "space": self.space.to_dict(),
            "budget": asdict(self.budget),
            "objectives": list(self.objectives),
            "seed": self.seed,
            "population": self.population,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """A setting from what `to_dict` gave."""
        space, budget = SearchSpace.from_dict(data["space"]), Budget(**data["budget"])
        return cls.of(**{**data, "space": space, "budget": budget})
