"""The points among which `additive` chooses a batch: those of best score at every cost, and neighbours of the front."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Generic

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.optimize.dynamic_program import AdditiveScore, ParetoDP
from sret_nas.pareto import non_dominated
from sret_nas.space.chain import Point
from sret_nas.surrogate.ensemble import Ensemble, PointFeatures

from .additive_settings import AdditiveSettings
from .candidates import CandidatePool
from .domain import C
from .neighbours import Neighbours


class Proposals(ABC, Generic[C]):
    """Finds the points that may be proposed next."""

    @abstractmethod
    def find(
        self, scores: Sequence[AdditiveScore], front: IntArray, known: set[Point], enough: int, *, is_flat: bool
    ) -> PointFeatures:
        """Returns points that are not known.

        Args:
            scores: Scores whose best points are wanted.
            front: The points of the observed front, shape (n, stages).
            known: Points that were asked before.
            enough: Number of points wanted of each score, if it has so many; 0 for those of its front alone.
            is_flat: Whether scores hardly tell points of equal cost apart.
        """

    @abstractmethod
    def candidate(self, point: Point) -> C:
        """Returns the candidate at a point that was found."""


class TableProposals(Proposals[C]):
    """All members of a table that are not known."""

    def __init__(self, pool: CandidatePool[C], ensemble: Ensemble) -> None:
        domain = pool.domain
        self._members = {domain.point(member): member for member in domain.members or ()}
        points = np.array(list(self._members), dtype=np.int64)
        self._position = {point: position for position, point in enumerate(self._members)}
        self._all = ensemble.describe(points, domain.chain.costs(points).astype(float))
        for has_slopes in self._all.terms:  # once, instead of for the open members in every round
            self._all.effects(has_slopes=has_slopes)

    def find(
        self, scores: Sequence[AdditiveScore], front: IntArray, known: set[Point], enough: int, *, is_flat: bool
    ) -> PointFeatures:
        is_open = np.ones(len(self._members), dtype=bool)
        is_open[[self._position[point] for point in known]] = False
        return self._all if is_open.all() else self._all.take(np.flatnonzero(is_open))

    def candidate(self, point: Point) -> C:
        return self._members[point]


class ChainProposals(Proposals[C]):
    """The best points of scores by a dynamic program, and random neighbours of the observed front."""

    def __init__(
        self, pool: CandidatePool[C], ensemble: Ensemble, search: ParetoDP, paid: Sequence[int], axis: int,
        settings: AdditiveSettings, rng: np.random.Generator,
    ) -> None:  # fmt: skip
        """Takes the positions of the costs that are objectives, `paid`, and of the cost that designs are spread by."""
        self._pool, self._domain, self._ensemble = pool, pool.domain, ensemble
        self._search, self._paid, self._settings, self._rng = search, list(paid), settings, rng
        self._by = self._domain.chain.cost_names[axis]
        self._neighbours = Neighbours(self._domain.chain, self._domain.bounds)

    def find(
        self, scores: Sequence[AdditiveScore], front: IntArray, known: set[Point], enough: int, *, is_flat: bool
    ) -> PointFeatures:
        settings, found = self._settings, dict[Point, None]()
        for score in scores:
            found |= self._best_of(score, known, enough)
        near = self._neighbours.draw(front, settings.max_neighbours, self._rng)
        found |= self._unknown(near.tolist(), known)
        if is_flat or not found:
            drawn = self._pool.draw_stratified(settings.max_from_front, self._by)
            found |= self._unknown((self._domain.point(candidate) for candidate in drawn), known)
        points = np.array(list(found), dtype=np.int64).reshape(-1, len(self._domain.chain.stages))
        return self._ensemble.describe(points, self._domain.chain.costs(points).astype(float))

    def candidate(self, point: Point) -> C:
        return self._domain.candidate(point)

    def _best_of(self, score: AdditiveScore, known: set[Point], enough: int) -> dict[Point, None]:
        """Returns unknown points of a score's front; if fewer than `enough`, of fronts behind, then neighbours."""
        best = self._search.find(score, offset=float(self._rng.random()))
        found = self._by_fronts(score, best, known, enough)
        for _ in range(self._settings.max_neighbour_rounds):
            if len(found) >= enough:
                break
            near = self._neighbours.draw(best, self._settings.neighbours_of_best * len(best), self._rng)
            found |= self._by_fronts(score, near, known, enough - len(found))
        return found

    def _by_fronts(
        self, score: AdditiveScore, points: IntArray, known: set[Point], enough: int
    ) -> dict[Point, None]:  # fmt: skip
        """Returns the unknown ones among points, front by front until there are `enough`."""
        chain, found, most = self._domain.chain, dict[Point, None](), self._settings.max_from_front
        values, costs = score.of(chain, points), chain.costs(points)[:, self._paid]
        left = np.arange(len(points))
        while len(left) > 0:
            front = left[_front(values[left], costs[left], most)]
            spread = np.linspace(0, len(front) - 1, min(len(front), most)).round().astype(int)
            found |= self._unknown(points[front[spread]].tolist(), known)
            if len(found) >= enough:
                break
            left = np.setdiff1d(left, front)
        return found

    @staticmethod
    def _unknown(points: Iterable[Sequence[int]], known: set[Point]) -> dict[Point, None]:
        return dict.fromkeys(point for point in map(tuple, points) if point not in known)


def _front(values: FloatArray, costs: IntArray, most: int) -> IntArray:
    """Returns the positions of the non-dominated points, best value first; without costs, of the `most` best values."""
    order = np.argsort(values, kind="stable")
    if costs.shape[1] == 0:
        return order[:most]
    return order[non_dominated(np.column_stack([values, costs]))[order]]
