"""The Gaussian process on top of the sums: its algebra by a second way, and what it learns."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.linalg import LinAlgError
from scipy.stats import multivariate_normal

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain, ChainStage
from sret_nas.surrogate.centred_features import CentredFeatures
from sret_nas.surrogate.features import EffectTerms
from sret_nas.surrogate.kernel import Kernel, Levels
from sret_nas.surrogate.model import Surrogate
from sret_nas.surrogate.process import MAX_LABELS, ResidualProcess, _root_and_deviation

LEVELS = np.arange(4)
STAGE = ChainStage(np.zeros(4, dtype=np.int64), 1 + LEVELS[:, None], ("a",), LEVELS[:, None])
CHAIN = Chain(("cost",), (STAGE, STAGE, STAGE), ({(0, 0): (0,)},) * 2)


def alike(points: IntArray) -> FloatArray:
    """Returns whether the first and the last stage choose alike, which no sum over stages can say; the second is
    irrelevant."""
    return np.where(points[:, 0] == points[:, 2], 1.0, -1.0)


def drawn(number: int, seed: int = 0) -> IntArray:
    return np.random.default_rng(seed).integers(4, size=(number, 3))


def fitted(points: IntArray, values: FloatArray) -> tuple[Surrogate, ResidualProcess]:
    base = Surrogate(EffectTerms(CHAIN), points, CHAIN.costs(points).astype(float), values, (0,))
    return base, ResidualProcess(base, Kernel(CHAIN), points)


def described(base: Surrogate, points: IntArray) -> tuple[CentredFeatures, Levels]:
    features = base.features(CHAIN.costs(points).astype(float), EffectTerms(CHAIN).sparse(points))
    return features, Kernel(CHAIN).levels(points)


def test_it_learns_what_sums_cannot_and_which_attribute_is_irrelevant() -> None:
    points = drawn(80)
    base, process = fitted(points, alike(points))
    errors = [np.mean((model.loo[0] - base.target) ** 2) for model in (base, process)]
    assert errors[0] > 0.5
    assert errors[1] < 0.1
    first, second, last = process.logs[4:7]
    assert min(first, last) > second + 1


def test_it_learns_from_some_levels_of_those_between() -> None:
    """The value grows with the product of two attributes, of each of which only every other level was seen."""
    stage = ChainStage(np.zeros(9, dtype=np.int64), np.ones((9, 1), dtype=np.int64), ("a",), np.arange(9)[:, None])
    chain = Chain(("cost",), (stage, stage), ({(0, 0): (0,)},))
    every = np.array(list(product(range(9), repeat=2)))
    values = (every[:, 0] - 4.0) * (every[:, 1] - 4) + every[:, 0]
    is_seen = (every % 2 == 0).all(axis=1)
    costs = chain.costs(every).astype(float)
    terms = EffectTerms(chain)
    base = Surrogate(terms, every[is_seen], costs[is_seen], values[is_seen], (0,))
    kernel = Kernel(chain)
    process = ResidualProcess(base, kernel, every[is_seen])
    unseen = every[~is_seen]
    mean = process.marginals(base.features(costs[~is_seen], terms.sparse(unseen)), kernel.levels(unseen))[0]
    predicted = mean * base.scale + base.center
    assert np.mean((predicted - values[~is_seen]) ** 2) < 0.05 * values.var()


def test_left_out_labels_are_predicted_as_by_a_process_without_them() -> None:
    points = drawn(30)
    values = alike(points) + np.random.default_rng(1).normal(scale=0.2, size=30)
    base, process = fitted(points, values)
    levels = process._rows
    covariance = process._covariance(process.logs, process._additive, levels)[0]
    for left in (0, 7):
        others = np.delete(np.arange(30), left)
        solved = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, left])
        prior = base.label_features @ base.prior_mean
        mean = prior[left] + solved @ (base.target - prior)[others]
        assert process.loo[0][left] == pytest.approx(mean)
        assert process.loo[1][left] == pytest.approx(covariance[left, left] - solved @ covariance[others, left])


def test_draws_have_the_mean_and_the_spread_of_the_marginals() -> None:
    points, unseen = drawn(40), drawn(25, seed=2)
    base, process = fitted(points, alike(points))
    features, levels = described(base, unseen)
    mean, deviation = process.marginals(features, levels)
    same, spread, draws = process.draw(features, levels, np.random.default_rng(0), 4000)
    assert same.tolist() == mean.tolist()
    assert spread == pytest.approx(deviation, abs=2e-3)
    assert draws.mean(axis=1) == pytest.approx(mean, abs=5 * deviation.max() / 4000**0.5)
    assert draws.std(axis=1) == pytest.approx(deviation, rel=0.1, abs=0.005)


def test_it_is_conditioned_on_a_number_of_labels_that_is_bounded() -> None:
    points = drawn(MAX_LABELS + 50)
    base = Surrogate(EffectTerms(CHAIN), points, CHAIN.costs(points).astype(float), alike(points), (0,))
    logs = np.log([1.0, 0.01, 0.5, 0.5, *[1.0] * 6])
    process = ResidualProcess(base, Kernel(CHAIN), points, start=logs, refit=False)
    assert len(np.unique(process.chosen)) == len(process.chosen) == MAX_LABELS
    assert process.chosen[-MAX_LABELS // 2 :].tolist() == list(range(MAX_LABELS // 2 + 50, MAX_LABELS + 50))
    assert process.logs.tolist() == logs.tolist()


def test_the_gradient_of_its_fit_is_that_of_its_value() -> None:
    """By finite differences, at the optimum's start and elsewhere."""
    points = drawn(20)
    base = Surrogate(EffectTerms(CHAIN), points, CHAIN.costs(points).astype(float), alike(points), (0,))
    process = ResidualProcess(base, Kernel(CHAIN), points)
    objective = process.neg_log_posterior(process._error, process._additive, process._rows)
    for logs in (np.zeros(10), np.array([0.3, -3.0, -1.0, -0.5, 0.5, -2.0, 1.0, 0.4, 1.0, -1.5])):
        _, slope = objective(logs)
        steps = 1e-5 * np.eye(10)
        numeric = [(objective(logs + step)[0] - objective(logs - step)[0]) / 2e-5 for step in steps]
        assert slope == pytest.approx(numeric, rel=1e-4, abs=1e-6)


def test_its_fit_is_that_of_the_density_of_labels_and_of_the_hyperprior() -> None:
    """Up to a constant. The scale's median is 1, and the noise's 0.003; the kernel has its own."""
    points = drawn(20)
    base, process = fitted(points, alike(points))
    kernel, levels = process._kernel, process._rows
    spread = np.array([0.7, 2.0, *kernel.spread])
    hyperprior = multivariate_normal(np.array([0.0, np.log(0.003), *kernel.center]), np.diag(spread**2))

    def expected(logs: FloatArray) -> float:
        scale, noise = np.exp(logs[:2])
        covariance = scale * process._additive + sum(kernel.parts(logs[2:], levels, levels)) + noise * np.eye(20)
        labels = multivariate_normal(base.label_features @ base.prior_mean, covariance)
        return float(-labels.logpdf(base.target) - hyperprior.logpdf(logs))

    value = process.neg_log_posterior(process._error, process._additive, levels)
    places = np.random.default_rng(3).normal(-1, 0.7, size=(5, 10))
    away = [value(logs)[0] - expected(logs) for logs in places]
    assert away == pytest.approx([away[0]] * 5, abs=1e-8)


def test_errors_of_labels_are_what_it_leaves_of_them() -> None:
    points = drawn(40)
    base, process = fitted(points, alike(points) + np.random.default_rng(1).normal(scale=0.2, size=40))
    mean = process.marginals(*described(base, points))[0]
    assert process.label_errors == pytest.approx(base.target - mean, abs=1e-9)
    assert np.abs(process.label_errors).max() > 1e-2


@pytest.mark.parametrize("rounding", [0.0, 1e-7, 1e-4])
def test_rounding_that_leaves_a_covariance_indefinite_costs_no_search(rounding: float) -> None:
    covariance = np.outer([3.0, 2.0, 1.0], [3.0, 2.0, 1.0]) - rounding * np.eye(3)
    root, deviation = _root_and_deviation(covariance, scale=5.0)
    assert root @ root.T == pytest.approx(covariance, abs=20 * rounding + 1e-5)
    assert deviation == pytest.approx([3.0, 2.0, 1.0], abs=0.01)


def test_what_is_no_rounding_is_an_error() -> None:
    with pytest.raises(LinAlgError, match="far from definite"):
        _root_and_deviation(-10 * np.eye(2), scale=1.0)
