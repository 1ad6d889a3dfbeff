"""The surrogate against planted truths, and its algebra by a second way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize
from scipy.stats import multivariate_normal
from threadpoolctl import threadpool_limits

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.optimize.dynamic_program import AdditiveScore
from sret_nas.space.chain import Chain, chain_of
from sret_nas.surrogate import model as surrogate_model
from sret_nas.surrogate.features import EffectTerms
from sret_nas.surrogate.model import Surrogate, _Evidence
from tests.counted_spaces import shipped

CHAIN = chain_of(shipped("sret_tiny"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Limits threads as the strategy does: small matrices are slower on two that share their cores with other tests."""
    with threadpool_limits(1):
        yield


def drawn(chain: Chain, number: int, seed: int) -> IntArray:
    """Draws points of the chain uniformly."""
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.integers(len(stage), size=number) for stage in chain.stages])


def costs_of(chain: Chain, points: IntArray) -> FloatArray:
    return chain.costs(points).astype(float)


def planted(points: IntArray, seed: int = 0) -> FloatArray:
    """Returns effects of recursions and MLP ratios in every stage, and a trend in the cost: larger is better."""
    rng = np.random.default_rng(seed)
    value = -0.5 * np.log(costs_of(CHAIN, points)[:, 0])
    for number, stage in enumerate(CHAIN.stages):
        for name in ("recursions", "mlp_ratio"):
            column = stage.attributes.index(name)
            value += rng.normal(scale=0.2, size=stage.num_levels[column])[stage.levels[points[:, number], column]]
    return value


def fitted(number: int = 150, noise: float = 0.02, **options: object) -> Surrogate:
    points = drawn(CHAIN, number, seed=1)
    values = planted(points) + np.random.default_rng(2).normal(scale=noise, size=number)
    return Surrogate(EffectTerms(CHAIN), points, costs_of(CHAIN, points), values, (0,), **options)  # type: ignore[arg-type]


def test_what_was_planted_is_found() -> None:
    """To twice the labels' noise; their mean alone is off by 0.38."""
    model = fitted()
    unseen = drawn(CHAIN, 400, seed=3)
    predicted = model.predict(unseen, costs_of(CHAIN, unseen), model.mean_weights)[:, 0]
    assert np.sqrt(np.mean((predicted - planted(unseen)) ** 2)) < 0.04
    assert planted(unseen).std() > 0.3
    assert model.noise == pytest.approx(0.02, rel=0.6)


def test_the_size_prior_alone_ranks_by_size_before_it_knows_anything() -> None:
    """The same label twice for one network says nothing of others; larger ones are then believed to be better."""
    points = drawn(CHAIN, 1, seed=4).repeat(2, axis=0)
    model = Surrogate(
        EffectTerms(CHAIN), points, costs_of(CHAIN, points), np.array([1.0, 1.0]), (0,), is_additive=False
    )
    unseen = drawn(CHAIN, 50, seed=5)
    costs = costs_of(CHAIN, unseen)
    predicted = model.predict(unseen, costs, model.mean_weights)[:, 0]
    assert np.all(np.diff(predicted[np.argsort(costs[:, 0])]) < 0)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("is_additive", [True, False])
def test_the_score_of_a_point_is_what_is_predicted(axes: tuple[int, ...], is_additive: bool) -> None:
    """Up to one constant: by sums over stages and neighbours, and by the feature matrix."""
    points = drawn(CHAIN, 60, seed=6)
    costs = costs_of(CHAIN, points)
    model = Surrogate(EffectTerms(CHAIN), points, costs, planted(points), axes, is_additive=is_additive)
    weights = model.draw_weights(np.random.default_rng(7), 1)
    unseen = drawn(CHAIN, 300, seed=8)
    predicted = model.predict(unseen, costs_of(CHAIN, unseen), weights)[:, 0]
    away = model.score(weights[:, 0], CHAIN).of(CHAIN, unseen) - predicted
    assert away == pytest.approx(np.full(300, away[0]), abs=1e-8)
    assert predicted.std() > 0.1


def test_left_out_predictions_are_those_of_a_model_without_the_label() -> None:
    """They agree up to the centring and scaling of labels, which one label hardly changes."""
    points = drawn(CHAIN, 60, seed=1)
    costs, values = costs_of(CHAIN, points), planted(points) + np.random.default_rng(2).normal(scale=0.02, size=60)
    terms = EffectTerms(CHAIN)
    model = Surrogate(terms, points, costs, values, (0,))
    without = np.empty(60)
    for left in range(60):
        others = np.delete(np.arange(60), left)
        part = Surrogate(
            terms, points[others], costs[others], values[others], (0,), start=model.variances, refit_variances=False
        )
        without[left] = part.predict(points[[left]], costs[[left]], part.mean_weights)[0, 0]
    fitted_values = model.predict(points, costs, model.mean_weights)[:, 0]
    assert np.abs(model.loo_predictions - without).mean() < 0.1 * np.abs(fitted_values - without).mean()


def test_left_out_labels_have_the_mean_and_variance_of_conditioning_on_the_others() -> None:
    """A Gaussian of the labels, with the features' covariance, conditioned on all labels but one."""
    model = fitted(30)
    covariance = (model.label_features * model.prior) @ model.label_features.T + model.variances[-1] * np.eye(30)
    mean = model.label_features @ model.prior_mean
    for left in range(30):
        others = np.delete(np.arange(30), left)
        weights = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, left])
        assert model.loo[0][left] == pytest.approx(mean[left] + weights @ (model.target - mean)[others], abs=1e-8)
        assert model.loo[1][left] == pytest.approx(
            covariance[left, left] - weights @ covariance[others, left], rel=1e-7
        )


def test_errors_of_labels_are_what_is_left_of_them_as_far_as_it_is_noise() -> None:
    model = fitted(40)
    rest = model.target - model.label_features @ model.mean_weights[:, 0]
    assert model.label_errors(np.inf) == pytest.approx(rest, abs=1e-9)
    assert model.label_errors(model.variances[-1] / 4) == pytest.approx(rest / 4, abs=1e-9)
    assert np.abs(rest).max() > 1e-3


def evidence(number: int = 12) -> _Evidence:
    """Returns the evidence of random labels, with a trend, two groups and noise."""
    rng = np.random.default_rng(0)
    trend, *groups = (rng.normal(size=(number, columns)) for columns in (2, 3, 4))
    return _Evidence(rng.normal(size=number), trend @ trend.T, [*(g @ g.T for g in groups), np.eye(number)])


def test_the_evidence_is_the_density_of_the_labels_and_of_the_hyperprior() -> None:
    """Up to a constant. The medians of the shares are 0.05, and 0.02 for the noise, with spreads of the logs."""
    posterior = evidence()
    hyperprior = multivariate_normal(np.log([0.05, 0.05, 0.02]), np.diag(np.square([2.0, 2.0, 1.5])))

    def expected(logs: FloatArray) -> float:
        parts = zip(np.exp(logs), posterior.kernels, strict=True)
        covariance = posterior.fixed + sum(variance * kernel for variance, kernel in parts)
        labels = multivariate_normal(np.zeros(len(posterior.error)), covariance)
        return float(-labels.logpdf(posterior.error) - hyperprior.logpdf(logs))

    places = np.random.default_rng(1).normal(-1, 1, size=(6, 3))
    away = [posterior.neg_log_posterior(logs)[0] - expected(logs) for logs in places]
    assert away == pytest.approx([away[0]] * 6, abs=1e-8)


def test_the_evidence_s_gradient_is_its_slope() -> None:
    posterior = evidence()
    for logs in np.random.default_rng(2).normal(-1, 1, size=(4, 3)):
        slopes = approx_fprime(logs, lambda at: posterior.neg_log_posterior(at)[0], 1e-6)
        assert posterior.neg_log_posterior(logs)[1] == pytest.approx(slopes, abs=1e-3)


@pytest.mark.slow
def test_of_many_labels_evenly_spaced_ones_decide_the_variances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two labels are exchanged, so that all else is as before, but for the rounding of sums."""
    monkeypatch.setattr(surrogate_model, "MAX_FOR_VARIANCES", 11)
    points = drawn(CHAIN, 41, seed=1)
    costs, values = costs_of(CHAIN, points), planted(points)

    def variances(first: int, second: int) -> FloatArray:
        exchanged = values.copy()
        exchanged[[first, second]] = values[[second, first]]
        return Surrogate(EffectTerms(CHAIN), points, costs, exchanged, (0,)).variances

    before = variances(0, 0)
    for position in (1, 38):
        assert variances(position, position + 1) == pytest.approx(before, rel=1e-5)
    for position in (3, 39):
        assert variances(position, position + 1) != pytest.approx(before, rel=1e-2)


@pytest.mark.slow
def test_draws_have_the_posterior_s_mean_and_spread() -> None:
    """At labelled points the spread follows from what the label itself changes: with noise s, the variance of the
    posterior is s^2 (1 - (y - fitted) / (y - left out))."""
    points = drawn(CHAIN, 40, seed=1)
    costs, values = costs_of(CHAIN, points), planted(points) + np.random.default_rng(2).normal(scale=0.02, size=40)
    model = Surrogate(EffectTerms(CHAIN), points, costs, values, (0,))
    draws = model.predict(points, costs, model.draw_weights(np.random.default_rng(0), 4000))
    mean = model.predict(points, costs, model.mean_weights)[:, 0]
    spread = model.noise * np.sqrt(1 - (values - mean) / (values - model.loo_predictions))
    assert draws.std(axis=1) == pytest.approx(spread, rel=0.08)
    assert np.abs(draws.mean(axis=1) - mean).max() < 5 * spread.max() / 4000**0.5


@pytest.mark.slow
def test_draws_come_closer_together_with_labels() -> None:
    unseen = drawn(CHAIN, 100, seed=9)
    few, many = (
        model.predict(unseen, costs_of(CHAIN, unseen), model.draw_weights(np.random.default_rng(0), 500)).std(axis=1)
        for model in (fitted(40), fitted(150))
    )
    assert many.mean() < 0.5 * few.mean()


def test_kinds_that_explain_nothing_fade_out() -> None:
    terms = EffectTerms(CHAIN)
    model = fitted()
    variance = {group.name: value for group, value in zip(terms.groups, model.variances, strict=False)}
    planted_kinds = [variance[f"{sort} {name}"] for sort in ("shared", "own") for name in ("recursions", "mlp_ratio")]
    assert max(planted_kinds) > 10 * max(variance["own heads"], variance["own loop"], variance["own nll"])


def test_variances_can_be_kept() -> None:
    first = fitted(60)
    again = fitted(60, start=first.variances * 3, refit_variances=False)
    assert again.variances.tolist() == (first.variances * 3).tolist()
    assert fitted(60, start=first.variances * 3).variances.tolist() != again.variances.tolist()


def test_equal_labels_are_no_division_by_zero() -> None:
    points = drawn(CHAIN, 12, seed=11)
    model = Surrogate(EffectTerms(CHAIN), points, costs_of(CHAIN, points), np.full(12, 0.25), (0,))
    assert np.isfinite(model.loo_predictions).all()
    assert isinstance(model.score(model.mean_weights[:, 0], CHAIN), AdditiveScore)


def test_a_fit_begins_at_the_variances_of_an_earlier_one_with_the_same_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which saves iterations. With other groups it begins anew."""
    begun: list[FloatArray] = []

    def watched(loss: Any, first: FloatArray, **options: Any) -> Any:
        begun.append(first)
        return minimize(loss, first, **options)

    monkeypatch.setattr(surrogate_model, "minimize", watched)
    variances = fitted(60).variances
    fitted(60, start=variances)
    fitted(60, start=variances[1:])
    anew, resumed, other = begun
    assert resumed.tolist() == np.log(variances).tolist() != anew.tolist()
    assert other.tolist() == anew.tolist()
