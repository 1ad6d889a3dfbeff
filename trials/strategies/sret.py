"""The domain of a search of SReTs: the networks of a space inside a budget, each with its depth schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.feasible.stratified import StrataByCost
from sret_nas.latency.fast_set import LatencySet
from sret_nas.latency.profile import LatencyProfile
from sret_nas.latency.table import LatencyTable
from sret_nas.space.chain import Chain, ChainStage, Point, chain_of
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import DepthSchedule, SearchSpace, Value, canonical_schedule

from .domain import Domain
from .strategy import Candidate


class SReTDomain(Domain[Candidate]):
    """With a latency table, predicted latency (in microseconds) is a cost like FLOPs, and may be bounded as well.

    Raises `BudgetError` if no network of the space meets the budget.
    """

    def __init__(
        self, space: SearchSpace, budget: Budget, latency: LatencyTable | None = None, latency_max: int | None = None
    ) -> None:
        if latency is None and latency_max is not None:
            raise ValueError("a latency can only be bounded where it is predicted: latency_max needs a latency table")
        self.space = space
        self.budget = budget
        self._latency = latency
        self._latency_max = latency_max
        self._fast = None if latency is None else LatencySet(space, budget, latency, latency_max)
        self._feasible = self._fast or FeasibleSet(space, budget)
        self._strata = StrataByCost(space, budget)
        self._feasible.check()

    def within(self, budget: Budget) -> SReTDomain:
        """The candidates that meet another budget, and the same bound on latency. Raises `BudgetError` if none does."""
        return SReTDomain(self.space, budget, self._latency, self._latency_max)

    @property
    def latency_profile(self) -> LatencyProfile | None:
        """What latencies are predicted from."""
        return None if self._latency is None else self._latency.profile

    @cached_property
    def dimensions(self) -> Mapping[str, tuple[Value, ...]]:
        return self.space.dimensions()

    def decode(self, values: Mapping[str, Value]) -> Candidate | None:
        arch = self.space.decode(values)
        return None if arch is None else _canonical(arch, values["depth_schedule"])  # type: ignore[arg-type]

    def encode(self, candidate: Candidate) -> dict[str, Value]:
        return {**self.space.encode(candidate.arch), "depth_schedule": candidate.depth_schedule}

    def costs(self, candidate: Candidate) -> tuple[float, ...]:
        cost, latency = cost_of(candidate.arch), self.latency_us(candidate)
        return (cost.flops, cost.params) if latency is None else (cost.flops, cost.params, latency)

    def latency_us(self, candidate: Candidate) -> int | None:
        """The candidate's predicted latency in microseconds, where there is a prediction."""
        return None if self._latency is None else self._latency.latency(candidate.arch)

    def excess(self, candidate: Candidate) -> float:
        cost = cost_of(candidate.arch)
        excess = self.budget.excess(cost.flops, cost.params)
        if self._latency is None or self._latency_max is None:
            return excess
        return max(excess, self._latency.latency(candidate.arch) / self._latency_max - 1)

    def draw(self, rng: np.random.Generator) -> Candidate:
        """Uniform over the feasible networks, then over the network's schedules."""
        return self._with_any_schedule(self._feasible.sample(rng), rng)

    def draw_stratified(self, rng: np.random.Generator, number: int, by: str) -> list[Candidate]:
        if self._fast is not None:
            drawn = self._fast.sample_stratified(rng, number, by)
        else:
            drawn = self._strata.of(by).sample_many(rng, number)
        return [self._with_any_schedule(arch, rng) for arch in drawn]

    def _with_any_schedule(self, arch: ArchConfig, rng: np.random.Generator) -> Candidate:
        schedules = self.space.effective_schedules(arch)
        return _canonical(arch, schedules[rng.integers(len(schedules))])

    def __iter__(self) -> Iterator[Candidate]:
        for arch in self._feasible:
            for schedule in self.space.effective_schedules(arch):
                yield _canonical(arch, schedule)

    @cached_property
    def chain(self) -> Chain:
        """The space's chain, with the depth schedule as a last stage that costs nothing."""
        chain = chain_of(self.space) if self._latency is None else self._latency.chain
        number = len(self.space.depth_schedules)
        schedules = ChainStage(
            state=np.zeros(number, dtype=np.int64),
            costs=np.zeros((number, len(chain.cost_names)), dtype=np.int64),
            attributes=("depth schedule",),
            levels=np.arange(number)[:, None],
        )
        free = (0,) * len(chain.cost_names)
        last = {(int(width), 0): free for width in np.unique(chain.stages[-1].state)}
        return Chain(chain.cost_names, (*chain.stages, schedules), (*chain.links, last))

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        budget, most = self.budget, float("inf")
        bounds = (
            (budget.flops_min or 0, most if budget.flops_max is None else budget.flops_max),
            (budget.params_min or 0, most if budget.params_max is None else budget.params_max),
            (0, most if self._latency_max is None else self._latency_max),
        )
        return bounds if self._latency is not None else bounds[:2]

    def point(self, candidate: Candidate) -> Point:
        return *choice_costs_of(self.space).choices(self.space, candidate.arch), self._position(candidate)

    def _position(self, candidate: Candidate) -> int:
        """The first of the space's schedules that trains the network so."""
        names = [canonical_schedule(candidate.arch, schedule) for schedule in self.space.depth_schedules]
        return names.index(candidate.depth_schedule)

    def candidate(self, point: Point) -> Candidate:
        arch = choice_costs_of(self.space).network(self.space, point[:-1])
        return _canonical(arch, self.space.depth_schedules[point[-1]])


def _canonical(arch: ArchConfig, schedule: DepthSchedule) -> Candidate:
    """A network with the one spelling of its schedule: with a single recursion, every schedule is `full`."""
    return Candidate(arch, canonical_schedule(arch, schedule))
