"""The best structure at a cost: the additive model, fitted to all results, and its best network in a window of cost.

That network is the best up to the width of a bucket of cost (`sret_nas.optimize.dynamic_program`).

In a window of a few per cent every network has the same size, so what decides is structure, which short proxies do tell
apart (docs/results.md).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.optimize.dynamic_program import AdditiveScore, Bounds, CostBuckets, ParetoDP
from sret_nas.surrogate.features import EffectTerms
from sret_nas.surrogate.model import Surrogate

from .additive_settings import AdditiveSettings
from .sret import SReTDomain
from .strategy import Candidate

WINDOWS = (0.97, 0.9)
"""Least cost of a network over the most that is allowed. The first window that holds any network is used."""

MIN_RESULTS = 2 * AdditiveSettings().min_labels
"""Results from which on structure can be judged: a model that proposes may err, one that recommends may not."""

MIN_STANDARD_ERRORS = 2.0
"""Standard errors by which the model with slopes must predict left-out results better than the one without: with noisy
results, more effects fit more noise."""

DRAWS = 400
"""Posterior draws behind standard deviations; these are then known to 4 %."""


@dataclass(frozen=True)
class Belief:
    """What the model predicts of some candidates.

    Attributes:
        mean: Posterior means, of shape (n,).
        draws: Posterior draws, of shape (n, draws), which keep what the candidates have in common.
    """

    mean: FloatArray
    draws: FloatArray

    @property
    def deviation(self) -> FloatArray:
        """Posterior standard deviations, of shape (n,)."""
        deviation: FloatArray = self.draws.std(axis=1)
        return deviation

    def difference(self, one: int, other: int) -> tuple[float, float]:
        """Returns mean and standard deviation of a candidate's value less another's, given their positions."""
        return float(self.mean[one] - self.mean[other]), float((self.draws[one] - self.draws[other]).std())


class StructureModel:
    """The additive model of an objective, fitted to all results of a search."""

    def __init__(self, domain: SReTDomain, candidates: Sequence[Candidate], values: Sequence[float], axis: int) -> None:
        """Fits the model with slopes over levels if they predict left-out results better, else the one without.

        Args:
            domain: The candidates of the search.
            candidates: Those with a result; at least `MIN_RESULTS`.
            values: Their results, which are minimised.
            axis: Position of the cost that networks are recommended by, in the order of the chain's costs.
        """
        self._domain, self._axis, self._settings = domain, axis, AdditiveSettings()
        points = np.array([domain.point(candidate) for candidate in candidates])
        costs, labels = domain.chain.costs(points).astype(float), np.array(values, dtype=float)
        bounded = {position for position, (_, high) in enumerate(domain.bounds) if high < float("inf")}
        axes = tuple(sorted({axis, *bounded}))[:2]
        with threadpool_limits(limits=1):  # sums must not depend on the number of cores
            without_slopes, with_slopes = (
                Surrogate(EffectTerms(domain.chain, has_slopes=has_slopes), points, costs, labels, axes)
                for has_slopes in (False, True)
            )
        of_without, of_with = (
            ((fit.loo_predictions - labels) / fit.scale) ** 2 for fit in (without_slopes, with_slopes)
        )
        self.surrogate = with_slopes if is_surely_less(of_with, of_without) else without_slopes
        """The fitted model."""

    def within(self, domain: SReTDomain) -> StructureModel:
        """Returns this model with the candidates of another budget in the same space."""
        narrowed = copy(self)
        narrowed._domain = domain
        return narrowed

    def best_within(self, limit: float, excluded: Container[tuple[str, str]] = ()) -> Candidate | None:
        """Returns the best candidate that costs at most `limit`, and little less; None if there is none.

        Where the space or another bound ends far below `limit`, it costs little less than the most expensive one.

        Args:
            limit: The most that it may cost.
            excluded: Keys of candidates that cannot be had, such as those whose trials failed.
        """
        for least in self._least_costs(limit):
            points = self._front(self._bounds(least, limit))
            if len(points) > 0:
                predicted = self._predict(points, self.surrogate.mean_weights)[:, 0]
                best_first = points[predicted.argsort(kind="stable")].tolist()
                candidates = (self._domain.candidate(tuple(point)) for point in best_first)
                if (best := next((one for one in candidates if one.key not in excluded), None)) is not None:
                    return best
        return None

    def _least_costs(self, limit: float) -> Iterator[float]:
        """Yields the lower ends of windows below `limit`, each wider than the one before."""
        yield from (share * limit for share in WINDOWS)
        most = self.most_expensive(limit)
        if most is not None:
            yield from (share * most for share in (*WINDOWS, 0.0) if share * most < WINDOWS[-1] * limit)

    def most_expensive(self, limit: float) -> int | None:
        """Returns the most that a candidate within `limit` costs, up to a bucket of cost; None if there is none."""
        chain, axis = self._domain.chain, self._axis
        neighbours = zip(chain.link_costs, chain.stages[1:], strict=True)
        cost = AdditiveScore(
            tuple(-stage.costs[:, axis].astype(float) for stage in chain.stages),
            tuple(-links[:, stage.state_position, axis].astype(float) for links, stage in neighbours),
            lambda costs: np.zeros(len(costs)),
        )
        points = self._best_of_buckets(cost, self._bounds(0.0, limit))
        return int(chain.costs(points)[:, axis].max()) if len(points) > 0 else None

    def bend(self, limit: float) -> Candidate | None:
        """Returns the candidate at which the predicted front bends: before it cost saves much error, after it little.

        It is the point that lies furthest below the straight line between the ends of the front, over the logarithm of
        cost, as in Kneedle (Satopää et al., 2011). The front ends at `limit`, where its error is the least.

        Returns None if the front is as good as straight: if that distance is within two posterior standard deviations.
        """
        points = self._front(self._bounds(0.0, limit))
        if len(points) == 0:
            return None
        costs = self._domain.chain.costs(points)[:, self._axis].astype(float)
        points = points[np.argsort(costs, kind="stable")]
        logs = np.log(np.maximum(np.sort(costs), 1.0))
        predicted = self._predict(points, self.surrogate.mean_weights)[:, 0]
        gains = np.flatnonzero(predicted < np.minimum.accumulate(np.append(np.inf, predicted[:-1])))
        along = (logs - logs[0]) / max(np.log(limit) - logs[0], 1e-9)
        below_line = predicted[0] + along * (predicted[gains[-1]] - predicted[0]) - predicted
        bend = int(gains[below_line[gains].argmax()])
        drawn = self._draws(points[[0, bend, gains[-1]]])
        spread = float((drawn[0] + along[bend] * (drawn[2] - drawn[0]) - drawn[1]).std())
        if below_line[bend] <= 2 * spread:
            return None
        return self._domain.candidate(tuple(points[bend].tolist()))

    def _bounds(self, low: float, high: float) -> Bounds:
        bounds = list(self._domain.bounds)
        bounds[self._axis] = max(low, bounds[self._axis][0]), min(high, bounds[self._axis][1])
        return bounds

    def _front(self, bounds: Bounds) -> IntArray:
        """Returns the points that the model finds best, one for each bucket of cost inside the bounds."""
        score = self.surrogate.score(self.surrogate.mean_weights[:, 0], self._domain.chain)
        return self._best_of_buckets(score, bounds)

    def _best_of_buckets(self, score: AdditiveScore, bounds: Bounds) -> IntArray:
        """Returns the points of least score, one for each bucket of cost inside the bounds, of shape (n, stages)."""
        if bounds[self._axis][0] > bounds[self._axis][1]:
            return np.empty((0, len(self._domain.chain.stages)), dtype=np.int64)
        buckets = CostBuckets((self._axis,), (self._settings.bucket_width_of_rich_stages,))
        others = [axis for axis, (_, high) in enumerate(bounds) if axis != self._axis and high < float("inf")]
        if others:
            buckets = CostBuckets((self._axis, others[0]), self._settings.bucket_widths_of_two)
        with threadpool_limits(limits=1):
            return ParetoDP(self._domain.chain, bounds, buckets).find(score)

    def _predict(self, points: IntArray, weights: FloatArray) -> FloatArray:
        return self.surrogate.predict(points, self._domain.chain.costs(points).astype(float), weights)

    def belief(self, candidates: Sequence[Candidate]) -> Belief:
        """Returns what the model predicts of candidates; the draws are always the same."""
        points = np.array([self._domain.point(candidate) for candidate in candidates])
        with threadpool_limits(limits=1):
            return Belief(self._predict(points, self.surrogate.mean_weights)[:, 0], self._draws(points))

    def _draws(self, points: IntArray) -> FloatArray:
        """Returns posterior draws of points, of shape (n, draws), which are always the same."""
        with threadpool_limits(limits=1):
            return self._predict(points, self.surrogate.draw_weights(np.random.default_rng(0), DRAWS))


def is_surely_less(ones: FloatArray, others: FloatArray) -> bool:
    """Returns whether `ones` (n,) are less than `others` (n,) on average by more than chance, paired."""
    less = others - ones
    return bool(less.mean() > MIN_STANDARD_ERRORS * less.std() / len(less) ** 0.5)
