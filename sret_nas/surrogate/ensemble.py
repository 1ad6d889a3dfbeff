"""Several models of one objective, which share its predictions by how well each predicts labels that were left out.

There are four: `size`, the trend in the costs alone; `additive`, with effects of choices; `slopes`, with effects that
grow with levels, too; and `process`, the better of these two with a Gaussian process for what sums miss. The shares
maximise the density of left-out labels under the mixture of the models' predictions ("stacking"; Yao, Vehtari, Simpson
and Gelman, "Using stacking to average Bayesian predictive distributions", 2018).

A model that sums effects is believed to miss something of every network. What it misses is drawn independently for
every network, with the variance by which its noise exceeds the noise of the process.

Labels are modelled by their logarithms where those give left-out labels a clearly larger density.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.optimize.dynamic_program import AdditiveScore
from sret_nas.space.chain import Chain
from sret_nas.surrogate.centred_features import CentredFeatures
from sret_nas.surrogate.features import EffectTerms
from sret_nas.surrogate.kernel import Kernel, Levels
from sret_nas.surrogate.model import Surrogate
from sret_nas.surrogate.process import ResidualProcess

MODELS = ("size", "additive", "slopes", "process")
SUMS = MODELS[:-1]
"""Models whose best networks a dynamic program finds."""

PRIOR_LABELS = {"size": 0.5, "additive": 2.0, "slopes": 0.5, "process": 0.5}
"""Labels that count for each model beforehand, so that a share is never decided by a handful."""
MIN_SHARE = 0.03
"""Shares below it are dropped: they would not fill one of 32 draws."""
MIN_STANDARD_ERRORS = 1.0
"""Standard errors by which logarithms must give labels a larger density, on average."""
MIN_TAIL = 2.0
"""How many times as far from the median as the least value the largest must be, for logarithms to be tried."""
FLOOR_SHARE = 0.2
"""See `Ensemble._best_floor`."""
MAX_LOG = 230.0
"""Largest logarithm that is taken back; its exponential can be squared."""
MIN_CENTRED = 4
"""Draws from which on they are shifted (by the process also scaled) to their exact moments. Chance in the mean of a few
draws would else decide which of many candidates gains most."""
STEPS = 100
"""Steps by which shares are found."""


@dataclass(frozen=True)
class EnsembleSettings:
    """Constants of how beliefs are drawn.

    Attributes:
        temper: Factor on the deviation of the sums' posterior draws from their mean.
        temper_of_process: The same for the process.
        lack_of_fit: Factor on the standard deviation of what sums miss.
    """

    temper: float = 0.4
    temper_of_process: float = 1.0
    lack_of_fit: float = 1.0


@dataclass(frozen=True, eq=False)
class PointFeatures:
    """Points (n, stages) with costs (n, costs) and the features that models take."""

    points: IntArray
    costs: FloatArray
    levels: Levels
    terms: dict[bool, EffectTerms]
    """Without and with slopes."""
    _effects: dict[bool, csr_array] = field(default_factory=dict)

    def effects(self, *, has_slopes: bool) -> csr_array:
        """Returns `EffectTerms.sparse`, computed when it is asked for first."""
        if has_slopes not in self._effects:
            self._effects[has_slopes] = self.terms[has_slopes].sparse(self.points)
        return self._effects[has_slopes]

    def take(self, chosen: IntArray) -> PointFeatures:
        """Returns some of the points."""
        effects = {has_slopes: matrix[chosen] for has_slopes, matrix in self._effects.items()}
        return PointFeatures(self.points[chosen], self.costs[chosen], self.levels.take(chosen), self.terms, effects)


class Ensemble:
    """The models of one objective and what is kept of them from one fit to the next."""

    def __init__(
        self, chain: Chain, axes: tuple[int, ...], settings: EnsembleSettings | None = None, *, has_depth: bool = True
    ) -> None:
        """Prepares models of the points of a chain.

        Args:
            chain: The chain.
            axes: Positions of the costs that enter the trend by their logs.
            settings: How beliefs are drawn.
            has_depth: Whether effects may change smoothly with depth (`sret_nas.surrogate.depth_effects`).
        """
        self._chain, self._axes = chain, axes
        self._settings = settings or EnsembleSettings()
        self._terms = {
            has_slopes: EffectTerms(chain, has_slopes=has_slopes, has_depth=has_depth) for has_slopes in (False, True)
        }
        self._kernel = Kernel(chain)
        self._variances: dict[str, FloatArray] = {}
        self._logs: FloatArray | None = None
        self._base = "additive"
        self.floor: float | None = None
        """What is subtracted before labels are modelled by their logarithms; None if they are modelled as they are."""
        self.shares = {"additive": 1.0}
        """The share of every model that has one; they sum to one."""
        self._sums: dict[str, Surrogate] = {}
        self._process: ResidualProcess | None = None
        self._process_noise = 0.0
        self._counts: dict[str, int] = {}
        self._weights: dict[str, FloatArray] = {}

    def fit(self, points: IntArray, costs: FloatArray, values: FloatArray, *, judge: bool) -> None:
        """Fits to the labels `values` (n,) of points; finds variances and shares anew if it has to `judge`.

        It has to if it is told to, or if a label came that does not lie above the floor of the earlier ones.
        """
        judge = judge or (self.floor is not None and float(values.min()) <= self.floor)
        if judge:
            self.floor = self._best_floor(points, costs, values)
        labels = self.modelled(values)
        # In the order of `SUMS`, whatever the hashes of this process: draws are made in this order.
        names = [name for name in SUMS if judge or name in self.shares or name == self._base]
        self._sums = {name: self._fitted(name, points, costs, labels, judge=judge) for name in names}
        if judge:
            self._base = max(("additive", "slopes"), key=lambda name: _density(labels, self._sums[name]).sum())
        self._process = None
        if judge or "process" in self.shares:
            base = self._sums[self._base]
            self._process = ResidualProcess(base, self._kernel, points, start=self._logs, refit=judge)
            self._logs = self._process.logs
        if judge:
            self._share(labels)

    def _fitted(
        self, name: str, points: IntArray, costs: FloatArray, labels: FloatArray, *, judge: bool
    ) -> Surrogate:  # fmt: skip
        fit = Surrogate(
            self._terms[name == "slopes"], points, costs, labels, self._axes,
            is_additive=name != "size", start=self._variances.get(name), refit_variances=judge,
        )  # fmt: skip
        self._variances[name] = fit.variances
        return fit

    def _best_floor(self, points: IntArray, costs: FloatArray, values: FloatArray) -> float | None:
        """Returns the floor below which no value is believed to lie; None if logarithms are not clearly better.

        They are not tried unless values have a tail: a longer way from the median up than down. Ranks have none.
        Floors are judged by the density that the additive model of the logarithms gives to left-out values. Those tried
        are 0 and one that lies as far below the least value as a share of the distance from there to the median.
        """
        least, median = float(values.min()), float(np.median(values))
        if float(values.max()) - median <= MIN_TAIL * (median - least):
            return None
        floors = [0.0] if least > 0 else []
        if median > least:
            floors.append(least - FLOOR_SHARE * (median - least))
        as_they_are = _density(values, self._fitted("additive", points, costs, values, judge=True))
        best, most = None, 0.0
        for floor in floors:
            logs = np.log(values - floor)
            fit = self._fitted("additive", points, costs, logs, judge=True)
            gain = _density(logs, fit) - logs - as_they_are  # the density of a value is that of its log over its size
            if gain.mean() > MIN_STANDARD_ERRORS * gain.std() / len(gain) ** 0.5 and gain.mean() > most:
                best, most = floor, float(gain.mean())
        return best

    def _share(self, labels: FloatArray) -> None:
        """Finds the shares, on the labels that the process is conditioned on."""
        assert self._process is not None
        mean, variance = self._process.loo
        chosen, scale = self._process.chosen, self._sums[self._base].scale
        densities = {name: _density(labels, fit)[chosen] for name, fit in self._sums.items()}
        densities["process"] = _log_normal(self._sums[self._base].target[chosen] - mean, variance) - np.log(scale)
        table = np.column_stack([densities[name] for name in MODELS])
        found = stacked(table, np.array([PRIOR_LABELS[name] for name in MODELS]))
        kept = {name: share for name, share in zip(MODELS, found.tolist(), strict=True) if share >= MIN_SHARE}
        total = sum(kept.values())
        self.shares = {name: share / total for name, share in kept.items()}
        self._process_noise = self._process.noise_variance

    def modelled(self, values: FloatArray) -> FloatArray:
        """Returns values (n,) in the objective's units as they are modelled: as they are, or by logarithms."""
        return values if self.floor is None else np.log(values - self.floor)

    def _in_units(self, labels: FloatArray) -> FloatArray:
        """Returns labels in the objective's units."""
        return labels if self.floor is None else self.floor + np.exp(np.minimum(labels, MAX_LOG))

    @property
    def scale(self) -> float:
        """Standard deviation of the labels as they are modelled, 1 if they are all equal."""
        return self._sums[self._base].scale

    @property
    def best_model(self) -> str:
        """The model with the largest share."""
        return max(self.shares, key=lambda name: self.shares[name])

    def describe(self, points: IntArray, costs: FloatArray) -> PointFeatures:
        """Returns points together with their features, which later fits share."""
        return PointFeatures(points, costs, self._kernel.levels(points), self._terms)

    def begin_round(self, rng: np.random.Generator, num_draws: int) -> None:
        """Divides draws among the models by their shares, and draws the weights of the sums."""
        names = [name for name in MODELS if name in self.shares]
        ends = np.cumsum([self.shares[name] for name in names]) * num_draws
        self._counts = dict(zip(names, np.diff(ends.round().astype(int), prepend=0).tolist(), strict=True))
        self._weights = {}
        for name, fit in self._sums.items():
            number = max(self._counts.get(name, 0), 1)
            drawn = fit.draw_weights(rng, number)
            if number >= MIN_CENTRED:
                drawn += fit.mean_weights - drawn.mean(axis=1, keepdims=True)
            self._weights[name] = self._settings.temper * drawn + (1 - self._settings.temper) * fit.mean_weights

    def scores(self, rng: np.random.Generator) -> tuple[AdditiveScore, AdditiveScore]:
        """Returns two scores by sums: the mean of the best of them, and a draw from one chosen by the shares."""
        names = [name for name in SUMS if name in self._sums]
        shares = np.array([self.shares.get(name, 0.0) + (name == self._base) * 1e-9 for name in names])
        if "process" in self.shares and self._base in names:
            shares[names.index(self._base)] += self.shares["process"]
        best, drawn = names[int(shares.argmax())], names[int(rng.choice(len(names), p=shares / shares.sum()))]
        mean = self._sums[best].score(self._sums[best].mean_weights[:, 0], self._chain)
        return mean, self._sums[drawn].score(self._weights[drawn][:, 0], self._chain)

    def beliefs(self, described: PointFeatures, rng: np.random.Generator, *, is_joint: bool) -> FloatArray:
        """Draws values of m points from the models, shape (m, draws), in the objective's units.

        Draws by the process keep what points have in common only if `is_joint`, which takes time cubic in m.
        """
        parts = []
        for name, number in self._counts.items():
            if number == 0:
                continue
            base = self._base if name == "process" else name
            fit = self._sums[base]
            features = fit.features(described.costs, described.effects(has_slopes=base == "slopes"))
            if name != "process":
                missed = self._settings.lack_of_fit * self._lack_of_fit(name) * _shuffled(len(features), number, rng)
                drawn = features @ self._weights[name] + missed
            else:
                drawn = self._of_process(features, described.levels, rng, number, is_joint=is_joint)
            parts.append(drawn * fit.scale + fit.center)
        return self._in_units(np.concatenate(parts, axis=1))

    def _of_process(
        self, features: CentredFeatures, levels: Levels, rng: np.random.Generator, number: int, *, is_joint: bool
    ) -> FloatArray:
        assert self._process is not None
        temper = self._settings.temper_of_process
        if is_joint:
            mean, deviation, drawn = self._process.draw(features, levels, rng, number)
            if number >= MIN_CENTRED:
                drawn = (drawn - drawn.mean(axis=1, keepdims=True)) / drawn.std(axis=1, keepdims=True)
                drawn = mean[:, None] + deviation[:, None] * drawn
            return mean[:, None] + temper * (drawn - mean[:, None])
        mean, deviation = self._process.marginals(features, levels)
        return mean[:, None] + temper * deviation[:, None] * _quantiles(number)

    def estimates(self) -> FloatArray:
        """Returns what the labels would be without noise, shape (n,), by the last fit that judged, in its units.

        An estimate is a label less its expected noise. The noise has the variance that the process fitted, so labels
        without noise are left as they are. What sums miss of a network counts as its own, and not as noise.
        """
        assert self._process is not None
        total, weight = np.zeros(len(self._sums[self._base].target)), np.zeros(len(self._sums[self._base].target))
        for name, share in self.shares.items():
            fit = self._sums[self._base if name == "process" else name]
            chosen = self._process.chosen if name == "process" else np.arange(len(fit.target))
            errors = self._process.label_errors if name == "process" else fit.label_errors(self._process_noise)
            total[chosen] += share * ((fit.target[chosen] - errors) * fit.scale + fit.center)
            weight[chosen] += share
        known = weight > 0
        labels = self._sums[self._base].target * self._sums[self._base].scale + self._sums[self._base].center
        return self._in_units(np.where(known, total / np.where(known, weight, 1.0), labels))

    def _lack_of_fit(self, name: str) -> float:
        """Returns the standard deviation of what a model of sums misses, in units of the target."""
        return float(max(self._sums[name].variances[-1] - self._process_noise, 0.0) ** 0.5)


def _quantiles(number: int) -> FloatArray:
    """Returns evenly spaced quantiles of the normal distribution, shape (number,)."""
    quantiles: FloatArray = ndtri((np.arange(number) + 0.5) / number)
    return quantiles


def _shuffled(num_points: int, number: int, rng: np.random.Generator) -> FloatArray:
    """Returns those quantiles in random order for every point: independent, and of equal mean and spread."""
    return _quantiles(number)[np.argsort(rng.random((num_points, number)), axis=1)]


def _density(labels: FloatArray, fit: Surrogate) -> FloatArray:
    """Returns the logarithm of the density of each label when it was left out, shape (n,)."""
    mean, variance = fit.loo
    density: FloatArray = _log_normal((labels - fit.center) / fit.scale - mean, variance) - np.log(fit.scale)
    return density


def _log_normal(away: FloatArray, variance: FloatArray) -> FloatArray:
    """Returns the logarithm of a normal density at a distance from its mean."""
    return -0.5 * (np.log(2 * np.pi * variance) + away**2 / variance)


def stacked(log_densities: FloatArray, prior: FloatArray) -> FloatArray:
    """Returns the shares (models,) of a mixture that make left-out labels most probable.

    Args:
        log_densities: Of each label under each model, shape (n, models).
        prior: Labels that count for each model beforehand (a Dirichlet prior), shape (models,).
    """
    densities = np.exp(log_densities - log_densities.max(axis=1, keepdims=True))
    shares: FloatArray = prior / prior.sum()
    for _ in range(STEPS):
        parts = densities * shares
        counts = (parts / parts.sum(axis=1, keepdims=True)).sum(axis=0) + prior
        shares = counts / counts.sum()
    return shares
