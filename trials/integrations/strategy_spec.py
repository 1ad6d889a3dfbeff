"""What determines a strategy's sequence of proposals, checked, and convertible to plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any, Self, get_args

from sret_nas.arch.budget import Budget
from sret_nas.errors import UserError
from sret_nas.feasible.arguments import require_budget
from sret_nas.feasible.feasible_set import CostName
from sret_nas.space.search_space import SearchSpace

from ..strategies.create import create_strategy
from ..strategies.sret import SReTDomain
from ..strategies.strategy import Candidate, Strategy, StrategyName


@dataclass(frozen=True)
class StrategySpec:
    """A strategy's name, the networks that it searches, and the objectives that it minimises."""

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
        space: str | Path | SearchSpace,
        budget: Budget,
        *,
        objectives: Sequence[str],
        seed: int,
        population: int,
    ) -> Self:
        """Returns the spec. Raises `UserError` for an invalid strategy, space, objective or number."""
        if strategy not in get_args(StrategyName):
            raise UserError(f"strategy must be one of {', '.join(get_args(StrategyName))}, got {strategy!r}")
        if isinstance(objectives, str) or not objectives or len(set(objectives)) < len(objectives):
            raise UserError(f"objectives must be different names, such as ('error', 'flops'), got {objectives!r}")
        for name in objectives:
            known = name.lower() if isinstance(name, str) else None
            if known is None or (known in get_args(CostName) and known != name):
                like = f": the known cost is written {known!r}" if known else ""
                raise UserError(f"objectives must be names, such as 'error' and 'flops', got {name!r}{like}")
        for number in (population, seed):
            if not isinstance(number, Integral) or isinstance(number, bool):
                raise UserError(f"population and seed must be whole numbers, got {population!r} and {seed!r}")
        if population < 2 or seed < 0:
            raise UserError(f"population must be at least 2, seed at least 0, got {population} and {seed}")
        require_budget(budget)
        loaded = space if isinstance(space, SearchSpace) else SearchSpace.load(space)
        return cls(strategy, loaded, budget, tuple(objectives), int(seed), int(population))

    @cached_property
    def domain(self) -> SReTDomain:
        """The candidates. Raises `BudgetError` if there are none."""
        return SReTDomain(self.space, self.budget)

    def start(self) -> Strategy[Candidate]:
        """Returns a new strategy at the start of its sequence. Raises `BudgetError` if there are no candidates."""
        return create_strategy(
            self.strategy, self.domain, self.objectives, seed=self.seed, population=self.population
        )  # fmt: skip

    def require_known_costs(self, candidate: Candidate, reported: Mapping[str, float]) -> None:
        """Raises `UserError` if a cost that is known beforehand was reported as something else.

        It is a sign of values in another order than `objectives`, or of costs of another network or counting rule.
        """
        domain = self.domain
        for name, cost in zip(domain.chain.cost_names, domain.costs(candidate), strict=True):
            value = reported.get(name)
            if value is not None and not math.isclose(value, cost, rel_tol=1e-6):
                raise UserError(
                    f"{name} of network {candidate.arch.arch_id} is {cost:,}, got {value:,.12g}: report the values in "
                    f"the order {', '.join(self.objectives)}, and costs of the target (`sret_nas.cost_of`)"
                )

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, equal for specs of equal sequences."""
        return {
            "strategy": self.strategy,
            "space": self.space.to_dict(),
            "budget": self.budget.to_dict(),
            "objectives": list(self.objectives),
            "seed": self.seed,
            "population": self.population,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Returns the spec that `to_dict` converted."""
        space, budget = SearchSpace.from_dict(data["space"]), Budget(**data["budget"])
        return cls.of(**{**data, "space": space, "budget": budget})
