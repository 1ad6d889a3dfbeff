"""Additive search: a Bayesian model that is additive over a network's choices, and its exact Pareto fronts.

It first evaluates a cost-stratified design. Then, in each round:

1. It fits the models to the labels (results).
2. Posterior mean and a posterior draw each give the best network at every cost (`sret_nas.optimize.dynamic_program`).
3. From these candidates it chooses a batch by expected hypervolume improvement over many posterior draws. Running
   trials count as evaluated, at the value of each draw.

Batches grow with the number of labels. If too few Pareto-optimal networks are open, the candidates are extended by the
fronts behind, then by variations of the Pareto-optimal networks.

For trials that were stopped early, the models use predicted final values (`trials.strategies.labels`).

A guard selects the model for each learned objective by leave-one-out predictions: first the additive model with or
without slopes over levels, by squared error; then this one, the same with a Gaussian-process residual, or the plain
size prior, by Kendall's tau. `used` lists the selected models of every round; `origin` names those of the last one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.stats import kendalltau
from threadpoolctl import ThreadpoolController

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.optimize.dynamic_program import MAX_CHOICES_LISTED, AdditiveScore, Bounds, CostBuckets, ParetoDP
from sret_nas.pareto import non_dominated
from sret_nas.space.chain import Chain
from sret_nas.surrogate.features import EffectTerms, Residual
from sret_nas.surrogate.model import Surrogate

from .additive_settings import AdditiveSettings
from .candidates import CandidatePool
from .domain import C
from .improvement import improvement
from .labels import Observations
from .strategy import Strategy

MODELS = ("additive", "slopes", "residual", "size")
"""The models that the guard selects from; `size` alone predicts the same for all networks of equal cost."""


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
        self._search = ParetoDP(self._domain.chain, self._domain.bounds, CostBuckets(self._axes, widths))
        self._start = max(settings.min_labels, min(start, settings.max_start))
        self._design: list[C] = []
        self._asked = 0
        self._running: dict[Hashable, tuple[int, ...]] = {}
        self._labels = Observations[tuple[int, ...]]()
        self._queue: list[C] = []
        self._terms = {False: EffectTerms(self._domain.chain), True: EffectTerms(self._domain.chain, has_slopes=True)}
        self._residual = Residual(self._domain.chain, np.random.default_rng(0))
        self._thread_pools = ThreadpoolController()  # once: finding them takes a walk over all loaded libraries
        self._variances: dict[tuple[int, str], FloatArray] = {}
        self._preferred: dict[int, str] = {}
        self._judged_at = 0
        self.used: list[tuple[str, ...]] = []
        """For every round, the selected model of each learned objective, one of `MODELS`."""

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
                self.origin = "+".join(self.used[-1])
                return self._queue.pop(0)
        return self._from_design()

    def _from_design(self) -> C | None:
        self.origin = "design"
        if not self._design:
            self._design = self._pool.draw_stratified(self._start, self._domain.chain.cost_names[self._axes[0]])
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
        modelled = spread_over(len(points), self._settings.max_labels)
        models = self._models(points[modelled], costs[modelled], values[modelled])
        drawn = [self._drawn(model) for model in models]
        # Several learned objectives are combined by random weights, drawn in every round, over their scales.
        share = self._rng.dirichlet(np.ones(len(models))) / [model.scale for model in models]
        candidates = self._candidates(models, drawn, share)
        if not candidates:
            return []
        running = list(self._running.values())
        asked = np.array([self._domain.point(candidate) for candidate in candidates] + running)
        asked_costs = chain.costs(asked).astype(float)
        beliefs = _total([
            part * model.predict(asked, asked_costs, weights)
            for part, model, weights in zip(share, models, drawn, strict=True)
        ])  # fmt: skip
        # Predicted values of stopped trials are not part of the front to improve, unless there are no others.
        is_final = self._labels.is_final
        counts = is_final if is_final.any() else ~is_final
        known = values[counts][:, self._learned] @ share
        gained = improvement(
            costs[counts][:, self._paid], known, asked_costs[:, self._paid], beliefs,
            max_steps=self._settings.max_improvement_steps,
        )  # fmt: skip
        for position in range(len(candidates), len(asked)):
            gained.take(position)
        batch = self._settings.batch_of(len(points))
        return [candidates[position] for position in gained.choose(batch, len(candidates))]

    def _drawn(self, model: Surrogate) -> FloatArray:
        """Returns weights drawn from the posterior, shape (features, draws), shrunk towards its mean by `temper`."""
        weights, temper = model.draw_weights(self._rng, self._settings.draws), self._settings.temper
        return temper * weights + (1 - temper) * model.mean_weights

    def _models(self, points: IntArray, costs: FloatArray, told: FloatArray) -> list[Surrogate]:
        """Returns the selected model of each learned objective, after selecting again if that is due."""
        known = len(self._labels)
        is_due = self._settings.is_refit_due(known, self._judged_at)
        if is_due:
            self._judged_at = known
        models = []
        for objective in self._learned:
            values = told[:, objective]
            if is_due:
                models.append(self._judged(objective, points, costs, values))
            else:
                models.append(
                    self._fit(self._preferred[objective], objective, points, costs, values, refit_variances=False)
                )
        self.used.append(tuple(self._preferred[objective] for objective in self._learned))
        return models

    def _judged(self, objective: int, points: IntArray, costs: FloatArray, values: FloatArray) -> Surrogate:
        """Fits all models to an objective and returns the one that the guard selects."""
        fits = {name: self._fit(name, objective, points, costs, values, refit_variances=True) for name in MODELS}
        squared_errors = {
            name: ((fits[name].loo_predictions - values) / fits[name].scale) ** 2 for name in ("additive", "slopes")
        }
        has_slopes = is_surely_less(
            squared_errors["slopes"], squared_errors["additive"], self._settings.min_standard_errors
        )
        del fits["additive" if has_slopes else "slopes"]
        taus = {name: float(kendalltau(fit.loo_predictions, values).statistic) for name, fit in fits.items()}
        self._preferred[objective] = preferred(taus, len(values))
        return fits[self._preferred[objective]]

    def _fit(
        self,
        name: str,
        objective: int,
        points: IntArray,
        costs: FloatArray,
        values: FloatArray,
        *,
        refit_variances: bool,
    ) -> Surrogate:
        """Returns a fitted model, with the variances of the last fit unless `refit_variances`."""
        fit = Surrogate(
            self._terms[name == "slopes"],
            points,
            costs,
            values,
            self._axes,
            is_additive=name != "size",
            residual=self._residual if name == "residual" else None,
            start=self._variances.get((objective, name)),
            refit_variances=refit_variances,
        )
        self._variances[objective, name] = fit.variances
        return fit

    def _candidates(self, models: list[Surrogate], drawn: list[FloatArray], share: FloatArray) -> list[C]:
        """Returns open candidates that are Pareto-optimal under the posterior mean or a posterior draw."""
        if self._domain.members is not None:
            return [candidate for candidate in self._domain.members if self._pool.is_open(candidate)]
        settings = self._settings
        if "size" in self.used[-1]:
            return self._pool.draw_stratified(settings.max_from_front, self._domain.chain.cost_names[self._axes[0]])
        candidates: dict[Hashable, C] = {}
        batch = settings.batch_of(len(self._labels))
        # The smallest batch takes what a front has; a larger one would exhaust the front too early.
        enough = settings.candidates_per_proposal * batch if batch > settings.batch else 0
        for draw in range(-1, settings.front_draws):
            score = _weighted([
                model.score(part * (model.mean_weights[:, 0] if draw < 0 else weights[:, draw]), self._domain.chain)
                for model, weights, part in zip(models, drawn, share, strict=True)
            ])  # fmt: skip
            candidates |= self._best_open(score, enough)
        return list(candidates.values())

    def _best_open(self, score: AdditiveScore, enough: int) -> dict[Hashable, C]:
        """Returns open candidates on the Pareto front of a score, by key.

        If they are fewer than `enough`, candidates of the fronts behind are added, then variations of the front.
        """
        best = self._search.find(score, offset=float(self._rng.random()))
        candidates = self._open_by_fronts(score, best, enough)
        for _ in range(self._settings.max_variation_rounds):
            if len(candidates) >= enough:
                break
            candidates |= self._open_by_fronts(score, self._variations(best), enough - len(candidates))
        return candidates

    def _open_by_fronts(self, score: AdditiveScore, points: IntArray, enough: int) -> dict[Hashable, C]:
        """Returns the open candidates among points, front by front until there are `enough`, by key."""
        chain, candidates = self._domain.chain, dict[Hashable, C]()
        values, costs = score.of(chain, points), chain.costs(points)[:, self._paid]
        known = {*self._labels.points, *self._running.values()}  # faster than asking the pool for each
        left = np.arange(len(points))
        while len(left) > 0:
            front = left[_front(values[left], costs[left], self._settings.max_from_front)]
            spread = np.linspace(0, len(front) - 1, min(len(front), self._settings.max_from_front)).round().astype(int)
            for point in map(tuple, points[front[spread]].tolist()):
                if point not in known and self._pool.is_open(candidate := self._domain.candidate(point)):
                    candidates.setdefault(candidate.key, candidate)
            if len(candidates) >= enough:
                break
            left = np.setdiff1d(left, front)
        return candidates

    def _variations(self, points: IntArray) -> IntArray:
        return variations(points, self._domain.chain, self._domain.bounds, self._settings.variations, self._rng)


def variations(points: IntArray, chain: Chain, bounds: Bounds, number: int, rng: np.random.Generator) -> IntArray:
    """Returns points inside the bounds that differ from the given ones in the choice of one stage.

    There are up to `number` variations of each point. The new choice has the same state, so that the links fit.
    """
    varied = np.repeat(points, number, axis=0)
    changed = rng.integers(len(chain.stages), size=len(varied))
    for position, stage in enumerate(chain.stages):
        rows = np.flatnonzero(changed == position)
        order, state = np.argsort(stage.state_position, kind="stable"), stage.state_position[varied[rows, position]]
        counts = np.bincount(stage.state_position)
        first = np.cumsum(counts) - counts
        varied[rows, position] = order[first[state] + rng.integers(counts[state])]
    costs, (low, high) = chain.costs(varied), np.array(bounds).T
    inside: IntArray = varied[((costs >= low) & (costs <= high)).all(axis=1)]
    return inside


def spread_over(num_labels: int, most: int) -> IntArray:
    """Returns the positions of the labels that models are fitted to: all, or `most` of them.

    Half of these are the latest labels, and half are spread evenly over the earlier ones.
    """
    if num_labels <= most:
        return np.arange(num_labels)
    last = most // 2
    before = np.linspace(0, num_labels - last - 1, most - last).round().astype(int)
    return np.concatenate([before, np.arange(num_labels - last, num_labels)])


def _width(bounds: tuple[float, float], most: float, min_buckets: int) -> float:
    """Returns the relative width of cost buckets: `most`, or less if `min_buckets` would not fit into the bounds."""
    low, high = bounds
    return min(most, (high / low) ** (1 / min_buckets) - 1) if low > 0 and high < float("inf") and low < high else most


def is_surely_less(ones: FloatArray, others: FloatArray, standard_errors: float) -> bool:
    """Returns whether `ones` (n,) are less than `others` (n,) on average by more than `standard_errors`, paired."""
    less = others - ones
    return bool(less.mean() > standard_errors * less.std() / len(less) ** 0.5)


def preferred(taus: dict[str, float], num_labels: int) -> str:
    """Returns the model of largest Kendall's tau, which must beat the first model's by a margin.

    The margin is half the standard deviation of tau under independence, sqrt(2 (2n + 5) / (9n (n - 1))).
    """
    margin = 0.5 * (2 * (2 * num_labels + 5) / (9 * num_labels * (num_labels - 1))) ** 0.5
    first = next(iter(taus))
    score = {name: np.nan_to_num(tau, nan=-1.0) - margin * (name != first) for name, tau in taus.items()}
    return max(score, key=lambda name: score[name])  # the first of equals


def _weighted(scores: list[AdditiveScore]) -> AdditiveScore:
    """Returns the sum of scores."""

    def trend(costs: FloatArray) -> FloatArray:
        return _total([score.trend(costs) for score in scores])

    return AdditiveScore(
        tuple(_total(terms) for terms in zip(*(score.stages for score in scores), strict=True)),
        tuple(_total(tables) for tables in zip(*(score.pairs for score in scores), strict=True)),
        trend,
    )


def _total(arrays: Sequence[FloatArray]) -> FloatArray:
    total: FloatArray = np.sum(arrays, axis=0)
    return total


def _front(values: FloatArray, costs: IntArray, most: int) -> IntArray:
    """Returns the positions of the non-dominated points, best value first; without costs, of the `most` best values."""
    order = np.argsort(values, kind="stable")
    if costs.shape[1] == 0:
        return order[:most]
    return order[non_dominated(np.column_stack([values, costs]))[order]]
