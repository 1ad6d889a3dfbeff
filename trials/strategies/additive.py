"""Additive search: Bayesian models that are additive over a network's choices, and their Pareto fronts.

It first evaluates a cost-stratified design. Then, in each round:

1. It fits the models to the labels (results). They share the posterior draws by how well they predict labels that were
   left out (`sret_nas.surrogate.ensemble`).
2. The mean and a draw of the models of sums each give the best network at every cost
   (`sret_nas.optimize.dynamic_program`). Neighbours of the observed front are candidates, too.
3. From these candidates it chooses a batch by expected hypervolume improvement over many posterior draws. Running
   trials count as evaluated, at the value of each draw.

Batches grow with the number of labels. For trials that were stopped early, the models use predicted final values
(`trials.strategies.labels`).

`used` has the shares of the models in every round; `origin` names the one with the largest.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from threadpoolctl import ThreadpoolController

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.optimize.dynamic_program import MAX_CHOICES_LISTED, AdditiveScore, CostBuckets, ParetoDP
from sret_nas.pareto import non_dominated
from sret_nas.surrogate.ensemble import Ensemble, PointFeatures
from sret_nas.surrogate.label_choice import spread_over

from .additive_settings import AdditiveSettings
from .candidates import CandidatePool
from .domain import C
from .improvement import improvement
from .labels import Observations
from .proposals import ChainProposals, Proposals, TableProposals
from .strategy import Strategy


class AdditiveStrategy(Strategy[C]):
    """Proposes candidates by an additive Bayesian model.

    Args:
        objectives: Names of the values that `tell` takes; those that are not costs of the domain are learned.
        start: Number of candidates in the initial cost-stratified design.
    """

    def __init__(
        self, pool: CandidatePool[C], objectives: Sequence[str], seed: int, start: int,
        settings: AdditiveSettings | None = None,
    ) -> None:  # fmt: skip
        self._pool, self._domain = pool, pool.domain
        self._settings = settings = settings or AdditiveSettings()
        self._rng = np.random.default_rng([seed, 2])  # other numbers than the pool draws with
        names = self._domain.chain.cost_names
        self._learned = [position for position, name in enumerate(objectives) if name not in names]
        self._paid = [names.index(name) for name in objectives if name in names]
        bounded = [
            position for position, (low, high) in enumerate(self._domain.bounds) if low > 0 or high < float("inf")
        ]
        self._axes = tuple(sorted({*self._paid, *bounded} or {0})[:2])
        widths: tuple[float, ...] = settings.bucket_widths_of_two
        if len(self._axes) == 1:
            is_rich = any(
                np.unique(stage.state, return_counts=True)[1].max() > MAX_CHOICES_LISTED
                for stage in self._domain.chain.stages
            )
            widest = settings.bucket_width_of_rich_stages if is_rich else settings.bucket_width
            widths = (_width(self._domain.bounds[self._axes[0]], widest, settings.min_buckets),)
        search = ParetoDP(self._domain.chain, self._domain.bounds, CostBuckets(self._axes, widths))
        self._start = max(settings.min_labels, min(start, settings.max_start))
        self._design: list[C] = []
        self._asked = 0
        self._running: dict[Hashable, tuple[int, ...]] = {}
        self._labels = Observations[tuple[int, ...]]()
        self._queue: list[C] = []
        self._models = [self._new_model() for _ in self._learned]
        self._proposals: Proposals[C] | None = None
        if self._learned and self._domain.members is not None:
            self._proposals = TableProposals(pool, self._models[0])
        elif self._learned:
            self._proposals = ChainProposals(
                pool, self._models[0], search, self._paid, self._axes[0], settings, self._rng
            )  # fmt: skip
        self._thread_pools = ThreadpoolController()  # once: finding them takes a walk over all loaded libraries
        self._judged_at = 0
        self.used: list[tuple[dict[str, float], ...]] = []
        """For every round, the shares of the models of each learned objective."""

    def ask(self) -> C | None:
        candidate = self._next()
        if candidate is not None:
            self.adopt(candidate)
        return candidate

    def adopt(self, candidate: C) -> None:
        self._pool.claim(candidate)
        self._running[candidate.key] = self._domain.point(candidate)
        self._asked += 1

    def tell(self, candidate: C, values: tuple[float, ...] | None) -> None:
        point = self._running.pop(candidate.key)
        if values is not None and np.isfinite(values).all():
            self._labels.add(candidate.key, point, self._tamed(values))

    def tell_partial(self, candidate: C, rung: int, values: tuple[float, ...]) -> None:
        if np.isfinite(values).all():
            self._labels.add_partial(candidate.key, self._running[candidate.key], rung, self._tamed(values))

    def estimated(self) -> dict[Hashable, tuple[float, ...]]:
        """Returns the final values of all trials so far by key: costs as told, the others less their expected noise.

        With noisy labels, the front of the estimates is nearer to the true one than that of the labels.
        """
        points, values = np.array(self._labels.points), self._labels.values()
        chosen = spread_over(len(points), self._settings.max_labels)
        costs = self._domain.chain.costs(points).astype(float)
        for objective in self._learned:
            model = self._new_model()
            model.fit(points[chosen], costs[chosen], values[chosen, objective], judge=True)
            values[chosen, objective] = model.estimates()
        return dict(zip(self._labels.keys, map(tuple, values.tolist()), strict=True))

    def _new_model(self) -> Ensemble:
        # In tables of a hundred networks, effects by depth gained nothing (benchmarks/NOTES.md).
        is_listed = self._domain.members is not None
        return Ensemble(self._domain.chain, self._axes, self._settings.ensemble, has_depth=not is_listed)

    def _tamed(self, values: Sequence[float]) -> tuple[float, ...]:
        most = self._settings.max_value
        return tuple(float(np.clip(value, -most, most)) for value in values)

    def _next(self) -> C | None:
        if self._asked < self._start or len(self._labels) < self._settings.min_labels:
            return self._from_design()
        while self._queue:
            candidate = self._queue.pop(0)
            if self._pool.is_open(candidate):
                return candidate
        if self._learned:
            self._queue = self._planned()
            if self._queue:
                self.origin = "+".join(model.best_model for model in self._models)
                return self._queue.pop(0)
        return self._from_design()

    def _from_design(self) -> C | None:
        self.origin = "design"
        if not self._design:
            self._design = self._pool.draw_start(self._start, self._domain.chain.cost_names[self._axes[0]])
        while self._design:
            candidate = self._design.pop(0)
            if self._pool.is_open(candidate):
                return candidate
        return self._pool.draw()

    def _planned(self) -> list[C]:
        """Returns the next batch, computed on one core: others are training, and sums must not depend on the cores."""
        with self._thread_pools.limit(limits=1):
            return self._most_improving()

    def _most_improving(self) -> list[C]:
        """Returns the candidates of largest expected hypervolume improvement, best first."""
        chain, points, values = self._domain.chain, np.array(self._labels.points), self._labels.values()
        costs = chain.costs(points).astype(float)
        self._fit(points, costs, values)
        # Several learned objectives are combined by random weights, drawn in every round, over their scales.
        weights = self._rng.dirichlet(np.ones(len(self._models))) / [
            values[:, objective].std() or 1.0 for objective in self._learned
        ]
        # Predicted values of stopped trials are not part of the front to improve, unless there are no others.
        is_final = self._labels.is_final
        counts = is_final if is_final.any() else ~is_final
        batch = self._settings.batch_of(len(points), is_listed=self._domain.members is not None)
        found = self._found(points[counts][non_dominated(values[counts])], weights, batch)
        if len(found.points) == 0:
            return []
        labelled = costs[counts][:, self._paid], values[counts][:, self._learned] @ weights
        found = found.take(self._shortlist(found, labelled, weights))
        number = len(found.points)
        running = np.array(list(self._running.values()), dtype=np.int64).reshape(-1, points.shape[1])
        every = np.concatenate([found.points, running])
        asked = self._models[0].describe(every, chain.costs(every).astype(float))
        gained = improvement(
            *labelled, asked.costs[:, self._paid], self._beliefs(asked, weights, is_joint=True),
            max_steps=self._settings.max_improvement_steps,
        )  # fmt: skip
        for position in range(number, len(every)):
            gained.take(position)
        chosen: list[C] = []
        for position in gained.choose(number if batch > number else batch + self._settings.spare, number):
            candidate = self._candidate(found.points[position])
            if self._pool.is_open(candidate):
                chosen.append(candidate)
        return chosen[:batch]

    def _candidate(self, point: IntArray) -> C:
        assert self._proposals is not None
        return self._proposals.candidate(tuple(point.tolist()))

    def _fit(self, points: IntArray, costs: FloatArray, values: FloatArray) -> None:
        """Fits the models of all learned objectives, and judges them if that is due."""
        known = len(self._labels)
        judge = self._settings.is_refit_due(known, self._judged_at)
        if judge:
            self._judged_at = known
        chosen = spread_over(len(points), self._settings.max_labels)
        for model, objective in zip(self._models, self._learned, strict=True):
            model.fit(points[chosen], costs[chosen], values[chosen, objective], judge=judge)
            model.begin_round(self._rng, self._settings.draws)
        self.used.append(tuple(dict(model.shares) for model in self._models))

    def _found(self, front: IntArray, weights: FloatArray, batch: int) -> PointFeatures:
        """Returns what may be proposed."""
        assert self._proposals is not None
        parts = [model.scores(self._rng) for model in self._models]
        scores = [_weighted([pair[kind] for pair in parts], weights.tolist()) for kind in (0, 1)]
        # The smallest batch takes what a front has; a larger one would exhaust the front too early.
        enough = self._settings.candidates_per_proposal * batch if batch > self._settings.batch else 0
        is_flat = any(model.shares.get("size", 0.0) > self._settings.flat_share for model in self._models)
        known = {*self._labels.points, *self._running.values()}
        return self._proposals.find(scores, front, known, enough, is_flat=is_flat)

    def _shortlist(
        self, found: PointFeatures, labelled: tuple[FloatArray, FloatArray], weights: FloatArray
    ) -> IntArray:
        """Returns the positions of the points with the largest gains by themselves, if there are many."""
        most = self._settings.max_shortlist
        if len(found.points) <= most:
            return np.arange(len(found.points))
        beliefs = self._beliefs(found, weights, is_joint=False)
        beliefs = beliefs[:, :: max(1, beliefs.shape[1] // self._settings.draws_of_shortlist)]
        gained = improvement(
            *labelled, found.costs[:, self._paid], beliefs, max_steps=self._settings.max_improvement_steps
        )  # fmt: skip
        order = np.argsort(-gained.gains(len(found.points)), kind="stable")
        return np.sort(order[:most])

    def _beliefs(self, described: PointFeatures, weights: FloatArray, *, is_joint: bool) -> FloatArray:
        """Returns draws of the learned objectives' weighted sum, shape (n, draws)."""
        return _total([
            part * model.beliefs(described, self._rng, is_joint=is_joint)
            for part, model in zip(weights, self._models, strict=True)
        ])  # fmt: skip


def _width(bounds: tuple[float, float], most: float, min_buckets: int) -> float:
    """Returns the relative width of cost buckets: `most`, or less if `min_buckets` would not fit into the bounds."""
    low, high = bounds
    return min(most, (high / low) ** (1 / min_buckets) - 1) if low > 0 and high < float("inf") and low < high else most


def _weighted(scores: list[AdditiveScore], weights: Sequence[float]) -> AdditiveScore:
    """Returns the weighted sum of scores."""

    def trend(costs: FloatArray) -> FloatArray:
        return _total([weight * score.trend(costs) for score, weight in zip(scores, weights, strict=True)])

    def summed(terms: Sequence[FloatArray]) -> FloatArray:
        return _total([weight * of_score for of_score, weight in zip(terms, weights, strict=True)])

    return AdditiveScore(
        tuple(summed(terms) for terms in zip(*(score.stages for score in scores), strict=True)),
        tuple(summed(tables) for tables in zip(*(score.pairs for score in scores), strict=True)),
        trend,
    )


def _total(arrays: Sequence[FloatArray]) -> FloatArray:
    total: FloatArray = np.sum(arrays, axis=0)
    return total
