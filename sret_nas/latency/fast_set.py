"""The networks of a space inside a budget and a bound on predicted latency: drawn uniformly, listed, or proven absent.

Networks inside a budget of FLOPs and parameters are counted and drawn exactly (`FeasibleSet`), because few of these
integers are distinct. Predicted latencies are nearly all distinct, so the third bound is met by rejection, which keeps
draws uniform. The proposals are networks inside the budget, or networks that are fast enough (`CostGrid`), whichever
yields more hits in the same time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain as chained
from itertools import pairwise, zip_longest
from math import ceil
from typing import Literal

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.errors import BudgetError
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.feasible.stratified import StrataByCost
from sret_nas.latency.cost_grid import CostGrid, least_from, least_point, members
from sret_nas.latency.table import LatencyTable
from sret_nas.quantities import format_latency, format_quantity
from sret_nas.space.chain import Point, with_shallowest
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace

Proposal = Literal["fast", "inside"]
"""What is drawn before rejection: networks that are fast enough, or networks inside the budget."""

_PILOT_DRAWS: dict[Proposal, int] = {"fast": 64, "inside": 2048}
"""Pilot draws of each proposal, which take about the same time; the proposal with more hits is used."""

MAX_TRIES: dict[Proposal, int] = {"fast": 2**13, "inside": 2**17}
"""Most draws of each proposal in one round. Rounds double, so about twice as many draws, some seconds' worth, may all
miss before the set counts as empty."""

_NUM_STRATA = 16
_TRIES_PER_STRATUM = 32
"""Draws from a stratum that may all miss before it counts as empty."""


class LatencySet:
    """The networks of a space inside a budget and a bound on predicted latency."""

    def __init__(self, space: SearchSpace, budget: Budget, table: LatencyTable, max_latency_us: int | None) -> None:
        """Takes latencies from `table`; `max_latency_us` is the bound in microseconds, None for no bound."""
        self.space = space
        self.budget = budget
        self.table = table
        self.max_latency_us = max_latency_us
        self._feasible = FeasibleSet(space, budget)
        self._strata = StrataByCost(space, budget)
        self._chain = table.chain
        self._cost = self._chain.cost_names.index("latency")

    @cached_property
    def fastest(self) -> ArchConfig:
        """Network of the whole space with the least predicted latency."""
        return self._network(least_point(self._chain, self._cost))

    @cached_property
    def _ends(self) -> tuple[int, int]:
        """Least and most predicted latency in the whole space."""
        least, most = (int(least_from(self._chain, self._cost, sign)[0].min()) for sign in (1, -1))
        return least, -most

    @cached_property
    def _grid(self) -> CostGrid:
        """All networks that are fast enough, by latency."""
        return CostGrid(self._chain, self._cost, self._grid_end)

    def _network(self, point: Point) -> ArchConfig:
        """Builds the network of a point."""
        return choice_costs_of(self.space).network(self.space, point)

    def check(self) -> None:
        """Raises `BudgetError`, naming what is possible, if no network is inside the budget and fast enough.

        If FLOPs or parameters are bounded too and no draw hits, a set that is nearly empty counts as empty.
        """
        self._feasible.check()
        if self.max_latency_us is None:
            return
        if self._ends[0] > self.max_latency_us:
            raise BudgetError(
                f"{self._no_network} has a predicted latency of at most {format_latency(self.max_latency_us)} "
                f"({self.table.profile.setup.describe()}); {self._describe_fastest()}; raise the latency budget "
                f"to at least {_round_up(self._ends[0])}, or use another search space"
            )
        self.sample(np.random.default_rng(0))

    @property
    def _no_network(self) -> str:
        """Beginning of an error message: `no network of <space>`."""
        return f"no network of {self.space.name} (at {self.space.image_size} px)"

    def _describe_fastest(self) -> str:
        """Describes the latency and the costs of the fastest network."""
        flops, params = choice_costs_of(self.space).cost(least_point(self._chain, self._cost)[: len(self.space.stages)])
        return (
            f"the fastest, {self.fastest.arch_id}, has {_round_up(self._ends[0])}, {format_quantity(flops)} FLOPs and "
            f"{format_quantity(params)} parameters"
        )

    def sample(self, rng: np.random.Generator) -> ArchConfig:
        """Draws one network of the set uniformly. Raises `BudgetError` if no draw hits the set."""
        tries = 1
        while tries <= MAX_TRIES[self._proposal]:
            points = self._members_among(rng, tries, self._proposal)
            if points:
                return self._network(points[0])
            tries *= 2
        raise BudgetError(
            f"{tries - 1:,} draws found no network of {self.space.name} (at {self.space.image_size} px) with "
            f"{self.budget.describe()} and a predicted latency of at most {format_latency(self.max_latency_us or 0)}; "
            f"{self._describe_fastest()}; raise a budget"
        )

    @cached_property
    def _proposal(self) -> Proposal:
        """The proposal with more hits among pilot draws."""
        if self.max_latency_us is None:
            return "inside"
        if self.budget == Budget():
            return "fast"
        rng = np.random.default_rng(0)
        hits = {side: len(self._members_among(rng, tries, side)) for side, tries in _PILOT_DRAWS.items()}
        return "fast" if hits["fast"] > hits["inside"] else "inside"

    def _members_among(self, rng: np.random.Generator, tries: int, proposal: Proposal) -> list[Point]:
        """Returns those of `tries` draws of a proposal that lie in the set, in the order drawn."""
        if proposal == "fast":
            return self._members_between(rng, tries, 0, self._grid_end)
        points = self._feasible.sample_choices(rng, tries)
        if self.max_latency_us is not None:
            points = points[self._chain.costs(points)[:, self._cost] <= self.max_latency_us]
        return [tuple(point) for point in points.tolist()]

    @property
    def _grid_end(self) -> int:
        """The highest latency of the set."""
        return self._ends[1] if self.max_latency_us is None else min(self.max_latency_us, self._ends[1])

    def _members_between(self, rng: np.random.Generator, tries: int, low: int, high: int) -> list[Point]:
        """Returns those of `tries` draws with a latency from `low` to `high` microseconds that lie inside the budget.

        The grid must hold a network with such a latency.
        """
        drawn = (self._grid.draw(rng, low, high) for _ in range(tries))
        costs = choice_costs_of(self.space)
        return [point for point in drawn if point is not None and self.budget.allows(*costs.bounded(point))]

    def sample_stratified(self, rng: np.random.Generator, num_draws: int, by: str) -> list[ArchConfig]:
        """Draws networks spread evenly over the log of a cost (`by`), in random order; some may be equal.

        A stratum that a few draws all miss counts as empty. If networks are missing in the end, they are drawn
        uniformly.
        """
        networks = (
            self._one_per_stratum(rng, num_draws) if by == "latency" else self._from_cost_strata(rng, num_draws, by)
        )
        networks += [self.sample(rng) for _ in range(num_draws - len(networks))]
        return [networks[position] for position in rng.permutation(len(networks)).tolist()]

    def _one_per_stratum(self, rng: np.random.Generator, num_draws: int) -> list[ArchConfig]:
        """Draws equally many networks from each stratum of latency, at most `num_draws` together."""
        edges = np.unique(np.geomspace(self._ends[0], self._grid_end + 1, _NUM_STRATA + 1).round().astype(np.int64))
        strata = [(low, high - 1) for low, high in pairwise(edges.tolist()) if self._grid.count(low, high - 1) > 0]
        points: list[Point] = []
        while strata and len(points) < num_draws:
            drawn = [(stratum, self._try_stratum(rng, *stratum)) for stratum in rng.permutation(strata).tolist()]
            strata = [stratum for stratum, hits in drawn if hits]
            points += [hits[0] for _, hits in drawn if hits]
        return [self._network(point) for point in points[:num_draws]]

    def _try_stratum(self, rng: np.random.Generator, low: int, high: int) -> list[Point]:
        """Returns the first draw from a stratum of latency that lies in the set, in a list; empty if all tries miss."""
        for _ in range(_TRIES_PER_STRATUM):
            points = self._members_between(rng, 1, low, high)
            if points:
                return points
        return []

    def _from_cost_strata(self, rng: np.random.Generator, num_draws: int, by: str) -> list[ArchConfig]:
        """Returns at most `num_draws` networks that are fast enough, spread over FLOPs or parameters."""
        strata, costs = self._strata.of(by), choice_costs_of(self.space)
        if self.max_latency_us is None:
            return strata.sample_many(rng, num_draws)
        drawn = strata.sample_many(rng, max(4 * num_draws, 2 * _NUM_STRATA))
        fast = [arch for arch in drawn if self.table.latency(arch) <= self.max_latency_us]
        position = ("flops", "params").index(by)
        spent = [costs.cost(costs.choices(self.space, arch))[position] for arch in fast]
        return [fast[chosen] for chosen in _spread(spent, num_draws)]

    def __iter__(self) -> Iterator[ArchConfig]:
        """Yields all networks of the set, each once, in a fixed order; fast if they are few."""
        if self.max_latency_us is None:
            yield from self._feasible
            return
        budget, inf = self.budget, float("inf")
        lows: tuple[float, ...] = (budget.flops_min or 0, budget.params_min or 0, 0)
        highs: tuple[float, ...] = (budget.flops_max or inf, budget.params_max or inf, self.max_latency_us)
        chain = self._chain
        if budget.shallowest_flops_max is not None:
            chain, lows = with_shallowest(chain, self.space), (*lows, 0)
            highs = (*highs, budget.shallowest_flops_max)
        for point in members(chain, lows, highs):
            yield self._network(point)


def _round_up(microseconds: int) -> str:
    """Formats a latency with four digits, rounded up, so that it is accepted as a bound."""
    unit = 10 ** max(0, len(str(microseconds)) - 4)
    return format_latency(ceil(microseconds / unit) * unit)


def _spread(costs: Sequence[int], limit: int) -> list[int]:
    """Returns at most `limit` positions, taken in turn from bins of equal width in log cost."""
    if not costs:
        return []
    logs = np.log(costs)
    bins = ((logs - logs.min()) / max(float(np.ptp(logs)), 1e-12) * (_NUM_STRATA - 1)).astype(np.int64)
    rows = [np.flatnonzero(bins == stratum).tolist() for stratum in np.unique(bins)]
    turns = chained.from_iterable(zip_longest(*rows))
    return [position for position in turns if position is not None][:limit]
