"""The networks of a space inside a budget that are predicted to be fast enough: drawn uniformly, listed, proven absent.

FLOPs and parameters are whole numbers of which few differ, so networks inside their budget are counted and drawn
exactly (`FeasibleSet`). Predicted latencies all differ, so a third bound is met by rejection: draws that are uniform
over one set are uniform over those of them that lie in another. They come from the networks inside the budget, or from
those that are fast enough (`CostGrid`), whichever of the two finds more in the same time.
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
from sret_nas.space.chain import Point
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace

Proposal = Literal["fast", "inside"]
"""Where draws come from: networks that are fast enough, or networks inside the budget."""

_PILOT_DRAWS: dict[Proposal, int] = {"fast": 64, "inside": 2048}
"""Draws from those that are fast enough and from those inside the budget, as many as take about as long as the others;
the side with more hits is drawn from."""

MAX_TRIES: dict[Proposal, int] = {"fast": 2**13, "inside": 2**17}
"""Draws at once that may all miss before almost nothing counts as nothing; twice as many are made; some seconds."""

_NUM_STRATA = 16
_TRIES_PER_STRATUM = 32


class LatencySet:
    """The networks of a space inside a budget whose predicted latency is at most `most` microseconds (None: any).

    Latencies are those of `table`, exact as far as the prediction goes.
    """

    def __init__(self, space: SearchSpace, budget: Budget, table: LatencyTable, most: int | None) -> None:
        self.space = space
        self.budget = budget
        self.table = table
        self.most = most
        self._feasible = FeasibleSet(space, budget)
        self._strata = StrataByCost(space, budget)
        self._chain = table.chain
        self._cost = self._chain.cost_names.index("latency")

    @cached_property
    def fastest(self) -> ArchConfig:
        """The network of the whole space with the least predicted latency."""
        return self._network(least_point(self._chain, self._cost))

    @cached_property
    def _ends(self) -> tuple[int, int]:
        """The least and the most latency in the whole space."""
        least, most = (int(least_from(self._chain, self._cost, sign)[0].min()) for sign in (1, -1))
        return least, -most

    @cached_property
    def _grid(self) -> CostGrid:
        most = self._ends[1] if self.most is None else min(self.most, self._ends[1])
        return CostGrid(self._chain, self._cost, most)

    def _network(self, point: Point) -> ArchConfig:
        return choice_costs_of(self.space).network(self.space, point)

    def check(self) -> None:
        """Raises `BudgetError` with what is possible if no network is inside the budget and fast enough.

        Where FLOPs or parameters are bounded beside latency, and draws find nothing, almost nothing counts as nothing.
        """
        self._feasible.check()
        if self.most is None:
            return
        if self._ends[0] > self.most:
            raise BudgetError(
                f"{self._nothing} has a predicted latency of at most {format_latency(self.most)} "
                f"({self.table.profile.setting.describe()}); {self._describe_fastest()}; raise the latency budget "
                f"to at least {_round_up(self._ends[0])}, or use another search space"
            )
        self.sample(np.random.default_rng(0))

    @property
    def _nothing(self) -> str:
        return f"no network of {self.space.name} (at {self.space.image_size} px)"

    def _describe_fastest(self) -> str:
        flops, params = choice_costs_of(self.space).cost(least_point(self._chain, self._cost)[: len(self.space.stages)])
        return (
            f"the fastest, {self.fastest.arch_id}, has {_round_up(self._ends[0])}, {format_quantity(flops)} FLOPs and "
            f"{format_quantity(params)} parameters"
        )

    def sample(self, rng: np.random.Generator) -> ArchConfig:
        """One network of the set, each with the same probability. Raises `BudgetError` where nothing is found."""
        tries = 1
        while tries <= MAX_TRIES[self._proposal]:
            found = self._members_among(rng, tries, self._proposal)
            if found:
                return self._network(found[0])
            tries *= 2
        raise BudgetError(
            f"{tries - 1:,} draws found no network of {self.space.name} (at {self.space.image_size} px) with "
            f"{self.budget.describe()} and a predicted latency of at most {format_latency(self.most or 0)}; "
            f"{self._describe_fastest()}; raise a budget"
        )

    @cached_property
    def _proposal(self) -> Proposal:
        """What is drawn and then looked at: networks that are fast enough, or networks inside the budget."""
        if self.most is None:
            return "inside"
        if self.budget == Budget():
            return "fast"
        rng = np.random.default_rng(0)
        hits = {side: len(self._members_among(rng, tries, side)) for side, tries in _PILOT_DRAWS.items()}
        return "fast" if hits["fast"] > hits["inside"] else "inside"

    def _members_among(self, rng: np.random.Generator, tries: int, proposal: Proposal) -> list[Point]:
        """The networks of the set among so many proposals, in the order in which they were drawn."""
        if proposal == "fast":
            return self._members_between(rng, tries, 0, self._grid_end)
        points = self._feasible.sample_choices(rng, tries)
        if self.most is not None:
            points = points[self._chain.costs(points)[:, self._cost] <= self.most]
        return [tuple(point) for point in points.tolist()]

    @property
    def _grid_end(self) -> int:
        return self._ends[1] if self.most is None else min(self.most, self._ends[1])

    def _members_between(self, rng: np.random.Generator, tries: int, low: int, high: int) -> list[Point]:
        """Of proposals whose latency is from `low` to `high` microseconds, those inside the budget.

        There must be such a network, whatever its FLOPs and parameters.
        """
        drawn = (self._grid.draw(rng, low, high) for _ in range(tries))
        costs = choice_costs_of(self.space)
        return [point for point in drawn if point is not None and self.budget.allows(*costs.cost(point))]

    def sample_stratified(self, rng: np.random.Generator, number: int, by: str) -> list[ArchConfig]:
        """Networks of the set, spread evenly over the logarithm of a cost, in random order; some may be equal.

        A stratum in which a few draws find nothing counts as empty; what is missing in the end is drawn uniformly.
        """
        found = self._one_per_stratum(rng, number) if by == "latency" else self._from_cost_strata(rng, number, by)
        found += [self.sample(rng) for _ in range(number - len(found))]
        return [found[position] for position in rng.permutation(len(found)).tolist()]

    def _one_per_stratum(self, rng: np.random.Generator, number: int) -> list[ArchConfig]:
        """As many from each stratum of latency as another, up to `number`."""
        edges = np.unique(np.geomspace(self._ends[0], self._grid_end + 1, _NUM_STRATA + 1).round().astype(np.int64))
        strata = [(low, high - 1) for low, high in pairwise(edges.tolist()) if self._grid.number(low, high - 1) > 0]
        found: list[Point] = []
        while strata and len(found) < number:
            drawn = [(stratum, self._try_stratum(rng, *stratum)) for stratum in rng.permutation(strata).tolist()]
            strata = [stratum for stratum, points in drawn if points]
            found += [points[0] for _, points in drawn if points]
        return [self._network(point) for point in found[:number]]

    def _try_stratum(self, rng: np.random.Generator, low: int, high: int) -> list[Point]:
        """A network of the set in a stratum: the first proposal that is one, or none."""
        for _ in range(_TRIES_PER_STRATUM):
            points = self._members_between(rng, 1, low, high)
            if points:
                return points
        return []

    def _from_cost_strata(self, rng: np.random.Generator, number: int, by: str) -> list[ArchConfig]:
        """Of draws spread over FLOPs or parameters, those that are fast enough, up to `number`, spread as well."""
        strata, costs = self._strata.of(by), choice_costs_of(self.space)
        if self.most is None:
            return strata.sample_many(rng, number)
        drawn = strata.sample_many(rng, max(4 * number, 2 * _NUM_STRATA))
        fast = [arch for arch in drawn if self.table.latency(arch) <= self.most]
        position = ("flops", "params").index(by)
        spent = [costs.cost(costs.choices(self.space, arch))[position] for arch in fast]
        return [fast[chosen] for chosen in _spread(spent, number)]

    def __iter__(self) -> Iterator[ArchConfig]:
        """All networks of the set, each once, in a fixed order; quick if they are few."""
        if self.most is None:
            yield from self._feasible
            return
        budget, inf = self.budget, float("inf")
        lows = (budget.flops_min or 0, budget.params_min or 0, 0)
        highs = (budget.flops_max or inf, budget.params_max or inf, self.most)
        for point in members(self._chain, lows, highs):
            yield self._network(point)


def _round_up(microseconds: int) -> str:
    """A latency with four digits that reads back as at least itself."""
    unit = 10 ** max(0, len(str(microseconds)) - 4)
    return format_latency(ceil(microseconds / unit) * unit)


def _spread(costs: Sequence[int], number: int) -> list[int]:
    """Up to `number` positions, taken in turn from bins of equal width in the logarithm of the cost."""
    if not costs:
        return []
    logs = np.log(costs)
    bins = ((logs - logs.min()) / max(float(np.ptp(logs)), 1e-12) * (_NUM_STRATA - 1)).astype(np.int64)
    rows = [np.flatnonzero(bins == place).tolist() for place in np.unique(bins)]
    turns = chained.from_iterable(zip_longest(*rows))
    return [position for position in turns if position is not None][:number]
