"""Additive search: a Bayesian model that adds over a network's choices, and exact fronts of what it believes.

First a design spread evenly over cost. Then, whenever a batch of proposals is used up: fit the models, let the
posterior mean and a posterior draw each give the networks that are best at every cost
(`sret_nas.optimize.dynamic_program`), and choose the next batch from them all by expected improvement of hypervolume
over many draws. Candidates that are running count with what each draw believes of them. Batches grow with the labels;
where too few of the best networks are still open to fill a large one, those behind them join, and then variations of
the best.

Of trials that were stopped early, the models learn what these would have come to (`trials.strategies.labels`).

A guard compares models by how well they predict what was left out: the additive one, or the same with slopes over
levels where these are surely closer; the same with a Gaussian-process residual and the plain size prior, by Kendall's
tau. `used` says which was used, round by round, and `origin` of the last candidate.
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
"""What the guard chooses from; the size prior alone tells networks of equal cost apart by nothing."""


class AdditiveStrategy(Strategy[C]):
    """`objectives` name what is told; `start` candidates are drawn evenly over cost before anything is modelled."""

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
        """For every round, the model used for each learned objective, one of `MODELS`."""

    def ask(self) -> C | None:
        candidate = self._next()
        if candidate is not None:
            self._pool.claim(candidate)
            self._running[candidate.key] = self._domain.point(candidate)
            self._asked += 1
        return candidate

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
        """The next batch, computed on one core: the others train, and sums then do not depend on how many there are."""
        with self._thread_pools.limit(limits=1):
            return self._most_improving()

    def _most_improving(self) -> list[C]:
        """The candidates that improve hypervolume most, as expected over the posterior's draws, one after the other."""
        chain, points, values = self._domain.chain, np.array(self._labels.points), self._labels.values()
        costs = chain.costs(points).astype(float)
        modelled = spread_over(len(points), self._settings.max_labels)
        models = self._models(points[modelled], costs[modelled], values[modelled])
        drawn = [self._drawn(model) for model in models]
        # Several learned objectives are weighted anew in every round, each by its spread.
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
        # What was stopped early is no part of the front that is to be improved.
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
        """Weights drawn from the posterior, pulled towards its mean."""
        weights, temper = model.draw_weights(self._rng, self._settings.draws), self._settings.temper
        return temper * weights + (1 - temper) * model.mean_weights

    def _models(self, points: IntArray, costs: FloatArray, told: FloatArray) -> list[Surrogate]:
        """One model for each learned objective: the one that the guard prefers."""
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
        """Fits all models to an objective and returns the one that ranks left-out labels best."""
        fits = {name: self._fit(name, objective, points, costs, values, refit_variances=True) for name in MODELS}
        away = {
            name: ((fits[name].loo_predictions - values) / fits[name].scale) ** 2 for name in ("additive", "slopes")
        }
        has_slopes = is_surely_less(away["slopes"], away["additive"], self._settings.min_standard_errors)
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
        """A model of a kind, its variances found anew or, if not `refit_variances`, those of the last time."""
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
        """Open candidates that the mean or one of a few draws believes to be best at their cost."""
        if self._domain.members is not None:
            return [candidate for candidate in self._domain.members if self._pool.is_open(candidate)]
        settings = self._settings
        if "size" in self.used[-1]:
            return self._pool.draw_stratified(settings.max_from_front, self._domain.chain.cost_names[self._axes[0]])
        found: dict[Hashable, C] = {}
        batch = settings.batch_of(len(self._labels))
        # A batch of the least size makes do with what a front has; larger ones would be used up too early.
        enough = settings.candidates_per_proposal * batch if batch > settings.batch else 0
        for draw in range(-1, settings.front_draws):
            score = _weighted([
                model.score(part * (model.mean_weights[:, 0] if draw < 0 else weights[:, draw]), self._domain.chain)
                for model, weights, part in zip(models, drawn, share, strict=True)
            ])  # fmt: skip
            found |= self._best_open(score, enough)
        return list(found.values())

    def _best_open(self, score: AdditiveScore, enough: int) -> dict[Hashable, C]:
        """Open candidates that are best in a score at their cost, by their keys.

        With fewer than enough on the front, from the fronts behind it, and then from variations of its networks.
        """
        best = self._search.find(score, offset=float(self._rng.random()))
        found = self._open_by_fronts(score, best, enough)
        for _ in range(self._settings.max_variation_rounds):
            if len(found) >= enough:
                break
            found |= self._open_by_fronts(score, self._variations(best), enough - len(found))
        return found

    def _open_by_fronts(self, score: AdditiveScore, points: IntArray, enough: int) -> dict[Hashable, C]:
        """The open ones of these points: those of the front, and of the fronts behind it until there are enough."""
        chain, found = self._domain.chain, dict[Hashable, C]()
        values, costs = score.of(chain, points), chain.costs(points)[:, self._paid]
        known = {*self._labels.points, *self._running.values()}  # a shorter way than to ask the pool of each
        left = np.arange(len(points))
        while len(left) > 0:
            front = left[_front(values[left], costs[left], self._settings.max_from_front)]
            spread = np.linspace(0, len(front) - 1, min(len(front), self._settings.max_from_front)).round().astype(int)
            for point in map(tuple, points[front[spread]].tolist()):
                if point not in known and self._pool.is_open(candidate := self._domain.candidate(point)):
                    found.setdefault(candidate.key, candidate)
            if len(found) >= enough:
                break
            left = np.setdiff1d(left, front)
        return found

    def _variations(self, points: IntArray) -> IntArray:
        return variations(points, self._domain.chain, self._domain.bounds, self._settings.variations, self._rng)


def variations(points: IntArray, chain: Chain, bounds: Bounds, number: int, rng: np.random.Generator) -> IntArray:
    """Returns points inside the bounds that differ from these in the choice of one stage, of the same state: up to
    `number` of each."""
    varied = np.repeat(points, number, axis=0)
    changed = rng.integers(len(chain.stages), size=len(varied))
    for position, stage in enumerate(chain.stages):
        at = np.flatnonzero(changed == position)
        order, state = np.argsort(stage.state_position, kind="stable"), stage.state_position[varied[at, position]]
        counts = np.bincount(stage.state_position)
        first = np.cumsum(counts) - counts
        varied[at, position] = order[first[state] + rng.integers(counts[state])]
    costs, (low, high) = chain.costs(varied), np.array(bounds).T
    inside: IntArray = varied[((costs >= low) & (costs <= high)).all(axis=1)]
    return inside


def spread_over(number: int, most: int) -> IntArray:
    """Which of so many labels, in the order of telling, models are fitted to: all, or `most` of them."""
    if number <= most:
        return np.arange(number)
    last = most // 2
    before = np.linspace(0, number - last - 1, most - last).round().astype(int)
    return np.concatenate([before, np.arange(number - last, number)])


def _width(bounds: tuple[float, float], most: float, min_buckets: int) -> float:
    """The width of cost buckets inside bounds: at least so many fit into a narrow window."""
    low, high = bounds
    return min(most, (high / low) ** (1 / min_buckets) - 1) if low > 0 and high < float("inf") and low < high else most


def is_surely_less(ones: FloatArray, others: FloatArray, standard_errors: float) -> bool:
    """Whether values of shape (n,) are less than others, pair by pair, by more than so many standard errors."""
    less = others - ones
    return bool(less.mean() > standard_errors * less.std() / len(less) ** 0.5)


def preferred(taus: dict[str, float], number: int) -> str:
    """The first model, unless another ranks clearly better: by half the deviation that chance alone gives tau."""
    margin = 0.5 * (2 * (2 * number + 5) / (9 * number * (number - 1))) ** 0.5
    first = next(iter(taus))
    score = {name: np.nan_to_num(tau, nan=-1.0) - margin * (name != first) for name, tau in taus.items()}
    return max(score, key=lambda name: score[name])  # of equals the first


def _weighted(scores: list[AdditiveScore]) -> AdditiveScore:
    """The sum of scores."""

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
    """Positions of the points that none beats in value and costs; of values alone, the best `most`. Best first."""
    order = np.argsort(values, kind="stable")
    if costs.shape[1] == 0:
        return order[:most]
    return order[non_dominated(np.column_stack([values, costs]))[order]]
