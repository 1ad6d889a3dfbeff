"""The search domain of SReTs: the networks of a space inside a budget, each with its depth schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import cast

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import bounded_costs
from sret_nas.feasible.balanced import BalancedSampler
from sret_nas.feasible.feasible_set import CostName, FeasibleSet
from sret_nas.feasible.stratified import StrataByCost
from sret_nas.latency.fast_set import LatencySet
from sret_nas.latency.profile import LatencyProfile
from sret_nas.latency.table import LatencyTable
from sret_nas.space.chain import SHALLOWEST, Chain, ChainStage, Point, chain_of, with_shallowest
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import DepthSchedule, SearchSpace, Value, canonical_schedule

from .domain import Domain
from .strategy import Candidate


class SReTDomain(Domain[Candidate]):
    """The networks of a space inside a budget. With a latency table, predicted latency is a cost like FLOPs."""

    def __init__(
        self, space: SearchSpace, budget: Budget, latency: LatencyTable | None = None, latency_max: int | None = None
    ) -> None:
        """Raises `BudgetError` if no network meets the budget and `latency_max` (in microseconds)."""
        if latency is None and latency_max is not None:
            raise ValueError("a latency can only be bounded where it is predicted: latency_max needs a latency table")
        self.space = space
        self.budget = budget
        self._latency = latency
        self._latency_max = latency_max
        self._fast = None if latency is None else LatencySet(space, budget, latency, latency_max)
        self._feasible = self._fast or FeasibleSet(space, budget)
        self._strata = StrataByCost(space, budget)
        self._balanced: dict[CostName, BalancedSampler] = {}
        self._feasible.check()

    def within(self, budget: Budget) -> SReTDomain:
        """Returns the domain of another budget, with the same latency bound. Raises `BudgetError` if it is empty."""
        return SReTDomain(self.space, budget, self._latency, self._latency_max)

    @property
    def latency_profile(self) -> LatencyProfile | None:
        """The profile that latencies are predicted from; None without a latency table."""
        return None if self._latency is None else self._latency.profile

    @cached_property
    def dimensions(self) -> Mapping[str, tuple[Value, ...]]:
        return self.space.dimensions()

    def decode(self, values: Mapping[str, Value]) -> Candidate | None:
        arch = self.space.decode(values)
        return None if arch is None else _canonical(arch, values["depth_schedule"])  # type: ignore[arg-type]

    def encode(self, candidate: Candidate) -> dict[str, Value]:
        schedule, listed = candidate.depth_schedule, self.space.depth_schedules
        if schedule not in listed:  # canonical, such as `full` in a space without it
            equivalent = (one for one in listed if canonical_schedule(candidate.arch, one) == schedule)
            schedule = next(equivalent, schedule)
        return {**self.space.encode(candidate.arch), "depth_schedule": schedule}

    def costs(self, candidate: Candidate) -> tuple[float, ...]:
        flops, params, shallowest = bounded_costs(candidate.arch)
        latency = self.latency_us(candidate)
        costs = (flops, params) if latency is None else (flops, params, latency)
        return costs if self.budget.shallowest_flops_max is None else (*costs, shallowest)

    def latency_us(self, candidate: Candidate) -> int | None:
        """Returns the candidate's predicted latency in microseconds; None without a latency table."""
        return None if self._latency is None else self._latency.latency(candidate.arch)

    def excess(self, candidate: Candidate) -> float:
        excess = self.budget.excess(*bounded_costs(candidate.arch))
        if self._latency is None or self._latency_max is None:
            return excess
        return max(excess, self._latency.latency(candidate.arch) / self._latency_max - 1)

    def draw(self, rng: np.random.Generator) -> Candidate:
        """Returns a draw that is uniform over the feasible networks, then over the network's schedules."""
        return self._with_any_schedule(self._feasible.sample(rng), rng)

    def draw_stratified(self, rng: np.random.Generator, number: int, by: str) -> list[Candidate]:
        if by == SHALLOWEST:  # no strata of its own: it rises with FLOPs
            by = "flops"
        if self._fast is not None:
            drawn = self._fast.sample_stratified(rng, number, by)
        else:
            drawn = self._strata.of(by).sample_many(rng, number)
        return [self._with_any_schedule(arch, rng) for arch in drawn]

    def draw_start(self, rng: np.random.Generator, number: int, by: str) -> list[Candidate]:
        """Returns draws of which half are spread over costs, and half have all widths and variants equally often.

        Of the former, hardly any have wide stages under a tight budget, and a model that has not seen these does not
        propose them. Of the latter, hardly any are cheap.
        """
        if self._fast is not None:
            return self.draw_stratified(rng, number, by)
        cost = "flops" if by == SHALLOWEST else cast(CostName, by)
        if cost not in self._balanced:  # made on first use: it takes seconds
            self._balanced[cost] = BalancedSampler(self.space, self.budget, cost)
        drawn = self._balanced[cost].sample_many(rng, number // 2)
        half = [self._with_any_schedule(arch, rng) for arch in drawn]
        start = half + self.draw_stratified(rng, number - len(half), by)
        return [start[index] for index in rng.permutation(number)]

    def _with_any_schedule(self, arch: ArchConfig, rng: np.random.Generator) -> Candidate:
        schedules = self.space.effective_schedules(arch)
        return _canonical(arch, schedules[rng.integers(len(schedules))])

    def __iter__(self) -> Iterator[Candidate]:
        for arch in self._feasible:
            for schedule in self.space.effective_schedules(arch):
                yield _canonical(arch, schedule)

    @cached_property
    def chain(self) -> Chain:
        """The space's chain, with the depth schedule as a last stage of zero cost."""
        chain = chain_of(self.space) if self._latency is None else self._latency.chain
        if self.budget.shallowest_flops_max is not None:
            chain = with_shallowest(chain, self.space)
        num_schedules = len(self.space.depth_schedules)
        schedules = ChainStage(
            state=np.zeros(num_schedules, dtype=np.int64),
            costs=np.zeros((num_schedules, len(chain.cost_names)), dtype=np.int64),
            attributes=("depth schedule",),
            levels=np.arange(num_schedules)[:, None],
        )
        free = (0,) * len(chain.cost_names)
        last = {(int(state), 0): free for state in chain.stages[-1].states}
        chain = replace(chain, stages=(*chain.stages, schedules), links=(*chain.links, last))
        if chain.common is None or chain.state_levels is None:
            return chain
        every_level = np.repeat(np.arange(num_schedules)[:, None], chain.common.turned[0].shape[1], axis=1)
        common = replace(chain.common, turned=(*chain.common.turned, every_level))
        return replace(chain, state_levels=(*chain.state_levels, {0: (0, 0)}), common=common)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        budget, most = self.budget, float("inf")
        bounds: list[tuple[float, float]] = [
            (budget.flops_min or 0, most if budget.flops_max is None else budget.flops_max),
            (budget.params_min or 0, most if budget.params_max is None else budget.params_max),
        ]
        if self._latency is not None:
            bounds.append((0, most if self._latency_max is None else self._latency_max))
        if budget.shallowest_flops_max is not None:
            bounds.append((0, budget.shallowest_flops_max))
        return tuple(bounds)

    def holds(self, candidate: Candidate) -> bool:
        """Returns whether the space has an equal network, and its schedule; the budget does not matter."""
        arch, schedule = candidate.arch, candidate.depth_schedule
        return self.space.contains(arch) and canonical_schedule(arch, schedule) in self.space.effective_schedules(arch)

    def point(self, candidate: Candidate) -> Point:
        return *choice_costs_of(self.space).choices(self.space, candidate.arch), self._position(candidate)

    def _position(self, candidate: Candidate) -> int:
        """Returns the position of the candidate's schedule: the first of the space's that is equivalent."""
        names = [canonical_schedule(candidate.arch, schedule) for schedule in self.space.depth_schedules]
        return names.index(canonical_schedule(candidate.arch, candidate.depth_schedule))

    def candidate(self, point: Point) -> Candidate:
        arch = choice_costs_of(self.space).network(self.space, point[:-1])
        return _canonical(arch, self.space.depth_schedules[point[-1]])


def _canonical(arch: ArchConfig, schedule: DepthSchedule) -> Candidate:
    """Returns a candidate with the canonical schedule: without recursion, every schedule is equivalent to `full`."""
    return Candidate(arch, canonical_schedule(arch, schedule))
