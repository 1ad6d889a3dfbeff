"""What strategies of other packages have in common here: they choose among feasible networks, as `additive` does.

They are given the same design spread over cost, and a pool of feasible networks. The pool is a table's open members, or
draws spread over cost and neighbours of the observed front; at most `POOL` of them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from sret_nas.arrays import FloatArray
from sret_nas.pareto import non_dominated
from trials.strategies.candidates import CandidatePool
from trials.strategies.domain import C, Domain
from trials.strategies.neighbours import Neighbours
from trials.strategies.strategy import Strategy

POOL = 500


class PooledStrategy(Strategy[C]):
    """Evaluates a design, then always the network of the pool that gains most; for an objective and a known cost."""

    def __init__(self, domain: Domain[C], objectives: Sequence[str], seed: int, start: int) -> None:
        self.domain, self.seed = domain, seed
        self.asked = 0
        self.told: list[tuple[C, float]] = []
        """Candidates with the value of the first objective, in the order of telling."""
        self._pool = CandidatePool(domain, seed)
        self._start = start
        self._rng = np.random.default_rng([seed, 3])
        self._by = objectives[1]
        self._column = domain.chain.cost_names.index(objectives[1])
        self._neighbours = Neighbours(domain.chain, domain.bounds)
        self._sizes = {name: (values, len(values)) for name, values in domain.dimensions.items()}
        self._design: list[C] = []

    @abstractmethod
    def gains(self, candidates: Sequence[C]) -> FloatArray:
        """Returns how much each candidate is worth evaluating; shape (candidates,)."""

    def ask(self) -> C | None:
        candidate = self._from_design() if self.asked < self._start else self._most_improving()
        if candidate is not None:
            self._pool.claim(candidate)
            self.asked += 1
        return candidate

    def tell(self, candidate: C, values: tuple[float, ...] | None) -> None:
        if values is not None:
            self.told.append((candidate, values[0]))

    def costs(self, candidates: Sequence[C]) -> FloatArray:
        """Returns the known cost of each candidate; shape (candidates,)."""
        return np.array([float(self.domain.costs(candidate)[self._column]) for candidate in candidates])

    def levels(self, candidates: Sequence[C]) -> FloatArray:
        """Returns the position of each value in its dimension, from 0 to 1; shape (candidates, dimensions)."""
        rows = []
        for candidate in candidates:
            encoded = self.domain.encode(candidate)
            rows.append(
                [values.index(encoded[name]) / max(size - 1, 1) for name, (values, size) in self._sizes.items()]
            )
        return np.array(rows, dtype=np.float64)

    def _from_design(self) -> C | None:
        if not self._design:
            self._design = self._pool.draw_stratified(self._start, self._by)
        return self._design.pop(0) if self._design else self._pool.draw()

    def _most_improving(self) -> C | None:
        candidates = self._candidates()
        return candidates[int(self.gains(candidates).argmax())] if candidates else self._pool.draw()

    def _candidates(self) -> list[C]:
        """Returns the pool."""
        members = self.domain.members
        if members is not None:
            open_ones = [member for member in members if self._pool.is_open(member)]
            chosen = self._rng.permutation(len(open_ones))[:POOL]
            return [open_ones[position] for position in chosen]
        costs = self.costs([candidate for candidate, _ in self.told])
        front = non_dominated(np.column_stack([[value for _, value in self.told], costs]))
        points = np.array([self.domain.point(candidate) for candidate, _ in self.told])[front]
        near = self._neighbours.draw(points, POOL // 2, self._rng).tolist()
        found = [self.domain.candidate(tuple(point)) for point in near]
        found += self._pool.draw_stratified(POOL - len(found), self._by)
        distinct = {candidate.key: candidate for candidate in found if self._pool.is_open(candidate)}
        return list(distinct.values())
