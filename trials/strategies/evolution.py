"""Surrogate-assisted evolution, the usual method (NSGANetV2; Lu et al., 2020) and the baseline of `additive`.

After a cost-stratified design, each round fits a ridge regression to each objective that is not a cost, evolves
candidates by an inner NSGA-II on the predictions, and tries a well-spread batch of the predicted front. For a table of
results all members are predicted, and nothing is evolved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from sret_nas.arrays import FloatArray, IndexArray
from sret_nas.space.search_space import Value

from .candidates import CandidatePool
from .domain import C, Domain
from .fronts import best_of, front_ranks, most_spread
from .ridge import Ridge, tamed
from .strategy import Strategy
from .stratified import StratifiedDesign, cost_to_spread

BATCH = 10
"""Candidates proposed from one fit."""
POPULATION = 100
GENERATIONS = 4
"""Generations of the inner evolution per fit; the population is kept from fit to fit."""
NEWCOMERS = 25
"""Stratified draws that join the population at every fit."""
CHILDREN_TRIED = 4
"""Children made per individual of a generation, since many may lie outside the budget."""
CROSSED = 0.5
"""Fraction of the children with two parents; under a narrow budget most feasible children are mutants of one."""


class Encoding(Generic[C]):
    """Encodes candidates as rows of positions in the domain's dimensions, and as features."""

    def __init__(self, domain: Domain[C]) -> None:
        self._domain = domain
        self._choices = list(domain.dimensions.items())
        self._position = [{value: position for position, value in enumerate(values)} for _, values in self._choices]
        self.sizes = np.array([len(values) for _, values in self._choices], dtype=np.intp)

    def row(self, candidate: C) -> IndexArray:
        """Returns the row (d,) of a candidate."""
        values = self._domain.encode(candidate)
        positions = zip(self._choices, self._position, strict=True)
        return np.array([position[values[name]] for (name, _), position in positions], dtype=np.intp)

    def candidate(self, row: IndexArray) -> C | None:
        """Returns the candidate of a row (d,); None if it encodes none."""
        chosen = zip(self._choices, row.tolist(), strict=True)
        value_of: dict[str, Value] = {name: values[position] for (name, values), position in chosen}
        return self._domain.decode(value_of)

    def features(self, rows: IndexArray, costs: FloatArray) -> FloatArray:
        """Returns features (n, values + 2 * costs): one-hot dimensions, then log costs and their squares."""
        one_hot = [rows[:, [dimension]] == np.arange(size) for dimension, size in enumerate(self.sizes.tolist())]
        logs = np.log(np.maximum(costs, np.finfo(np.float64).tiny))
        return np.column_stack([*one_hot, logs, logs**2]).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Individuals(Generic[C]):
    """Candidates with their rows (n, d) and costs (n, costs)."""

    candidates: list[C]
    rows: IndexArray
    costs: FloatArray

    def __len__(self) -> int:
        return len(self.candidates)

    def take(self, positions: IndexArray) -> Individuals[C]:
        return Individuals(
            [self.candidates[p] for p in positions.tolist()], self.rows[positions], self.costs[positions]
        )

    def joined(self, other: Individuals[C]) -> Individuals[C]:
        """Returns both together, without duplicates."""
        everyone = self.candidates + other.candidates
        first = {candidate.key: position for position, candidate in reversed(list(enumerate(everyone)))}
        rows, costs = np.vstack([self.rows, other.rows]), np.vstack([self.costs, other.costs])
        return Individuals(everyone, rows, costs).take(np.array(sorted(first.values()), dtype=np.intp))


class RidgeSurrogate(Generic[C]):
    """Predicts objectives: costs exactly, and each other objective by a ridge regression."""

    def __init__(
        self, domain: Domain[C], encoding: Encoding[C], objectives: Sequence[str], known: Individuals[C],
        values: FloatArray
    ) -> None:  # fmt: skip
        """Fits the regressions to the `values` (n, objectives) of `known` individuals."""
        self._encoding = encoding
        names = list(domain.chain.cost_names)
        features = encoding.features(known.rows, known.costs)
        self._columns: list[int | Ridge] = [
            names.index(name) if name in names else Ridge.fit(features, tamed(values[:, column]))
            for column, name in enumerate(objectives)
        ]

    def predict(self, individuals: Individuals[C]) -> FloatArray:
        """Returns predicted objectives (n, objectives)."""
        features = self._encoding.features(individuals.rows, individuals.costs)
        return np.column_stack([
            column.predict(features) if isinstance(column, Ridge) else individuals.costs[:, column]
            for column in self._columns
        ])  # fmt: skip


class EvolutionStrategy(Strategy[C]):
    """Proposes `start` candidates of a cost-stratified design, then a batch per fit."""

    def __init__(self, pool: CandidatePool[C], objectives: Sequence[str], seed: int, start: int) -> None:
        self._pool = pool
        self._domain = pool.domain
        self._objectives = tuple(objectives)
        self._rng = np.random.default_rng([seed, 2])  # other numbers than the pool draws with
        self._by = cost_to_spread(pool.domain, objectives)
        self._design = StratifiedDesign(pool, self._by)
        self._encoding = Encoding(pool.domain)
        self._start = start
        self._num_asked = 0
        self._known: dict[Hashable, tuple[C, tuple[float, ...]]] = {}
        self._population: list[C] = []
        self._described: dict[Hashable, tuple[IndexArray, FloatArray]] = {}
        self._queue: deque[C] = deque()

    def ask(self) -> C | None:
        candidate = self._design.draw() if self._num_asked < self._start or not self._known else self._proposed()
        if candidate is not None:
            self.adopt(candidate)
        return candidate

    def adopt(self, candidate: C) -> None:
        self._pool.claim(candidate)
        self._num_asked += 1

    def tell(self, candidate: C, values: tuple[float, ...] | None) -> None:
        if values is not None:
            self._known[candidate.key] = candidate, values

    def _proposed(self) -> C | None:
        while self._queue:
            candidate = self._queue.popleft()
            if self._pool.is_open(candidate):  # others may have tried it since
                return candidate
        self._queue.extend(self._batch())
        return self._queue.popleft() if self._queue else self._design.draw()

    def _batch(self) -> list[C]:
        """Returns `BATCH` well-spread open candidates of the predicted front, filled up from the next fronts."""
        known = self._individuals([candidate for candidate, _ in self._known.values()])
        values = np.array([values for _, values in self._known.values()])
        surrogate = RidgeSurrogate(self._domain, self._encoding, self._objectives, known, values)
        members = self._domain.members
        population = self._evolved(surrogate, known) if members is None else self._individuals(members)
        predicted = surrogate.predict(population)
        ranks = front_ranks(predicted, enough=self._num_asked + BATCH)  # at most `_num_asked` are not open
        is_open = np.array([self._pool.is_open(candidate) for candidate in population.candidates], dtype=bool)
        chosen: list[int] = []
        for rank in np.unique(ranks[is_open]).tolist():
            front = np.flatnonzero(is_open & (ranks == rank))
            chosen += front[most_spread(predicted[front], BATCH - len(chosen))].tolist()
            if len(chosen) == BATCH:
                break
        return [population.candidates[position] for position in chosen]

    def _evolved(self, surrogate: RidgeSurrogate[C], known: Individuals[C]) -> Individuals[C]:
        """Returns the last population and the evaluated candidates, evolved further on the predictions."""
        fresh = self._domain.draw_stratified(self._rng, NEWCOMERS, self._by)
        population = known.joined(self._individuals(self._population)).joined(self._individuals(fresh))
        for _ in range(GENERATIONS):
            population = population.take(best_of(surrogate.predict(population), POPULATION))
            population = population.joined(self._children(population))
        self._population = population.take(best_of(surrogate.predict(population), POPULATION)).candidates
        return population

    def _children(self, parents: Individuals[C]) -> Individuals[C]:
        """Returns up to `POPULATION` open children of parents, which are sorted best first."""
        children: dict[Hashable, C] = {}
        for row in self._bred(parents.rows, CHILDREN_TRIED * POPULATION):
            candidate = self._encoding.candidate(row)
            if candidate is not None and self._pool.is_open(candidate):
                children.setdefault(candidate.key, candidate)
            if len(children) == POPULATION:
                break
        return self._individuals(list(children.values()))

    def _bred(self, rows: IndexArray, number: int) -> IndexArray:
        """Returns the rows of children (number, d): binary tournament, uniform crossover, at least one mutation."""
        sizes, rng = self._encoding.sizes, self._rng
        searched = np.flatnonzero(sizes > 1)
        first, second = rng.integers(len(rows), size=(2, 2, number)).min(axis=1)
        shape = number, len(sizes)
        is_second = (rng.random((number, 1)) < CROSSED) & (rng.random(shape) < 0.5)
        is_mutated = rng.random(shape) < 1 / max(1, len(searched))
        if len(searched):
            is_mutated[np.arange(number), rng.choice(searched, number)] = True
        crossed = np.where(is_second, rows[second], rows[first])
        mutated: IndexArray = np.where(is_mutated, rng.integers(sizes, size=shape), crossed)
        return mutated

    def _individuals(self, candidates: Sequence[C]) -> Individuals[C]:
        for candidate in candidates:
            if candidate.key not in self._described:
                costs = np.array(self._domain.costs(candidate), dtype=np.float64)
                self._described[candidate.key] = self._encoding.row(candidate), costs
        described = [self._described[candidate.key] for candidate in candidates]
        rows = np.array([row for row, _ in described], dtype=np.intp)
        costs = np.array([costs for _, costs in described], dtype=np.float64)
        return Individuals(
            list(candidates),
            rows.reshape(len(candidates), len(self._encoding.sizes)),
            costs.reshape(len(candidates), len(self._domain.chain.cost_names)),
        )
