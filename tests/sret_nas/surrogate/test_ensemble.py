"""How models share predictions, and what is believed of networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain, ChainStage
from sret_nas.surrogate.ensemble import Ensemble, EnsembleSettings, stacked

LEVELS = np.arange(4)
STAGE = ChainStage(np.zeros(4, dtype=np.int64), 1 + LEVELS[:, None], ("a",), LEVELS[:, None])
CHAIN = Chain(("cost",), (STAGE,) * 3, ({(0, 0): (0,)},) * 2)
RNG = np.random.default_rng
POINTS = RNG(0).integers(4, size=(60, 3))
EFFECTS = RNG(1).normal(size=(3, 4))


def summed(points: IntArray) -> FloatArray:
    return EFFECTS[np.arange(3), points].sum(axis=1)


def rugged(points: IntArray) -> FloatArray:
    """Returns a sum in which every pair of far choices has a value of its own."""
    return RNG(2).normal(size=(4, 4))[points[:, 0], points[:, 2]] + 0.3 * points[:, 1]


def fitted(values: FloatArray, points: IntArray = POINTS, settings: EnsembleSettings | None = None) -> Ensemble:
    ensemble = Ensemble(CHAIN, (0,), settings)
    ensemble.fit(points, CHAIN.costs(points).astype(float), values, judge=True)
    ensemble.begin_round(RNG(3), 64)
    return ensemble


def believed(ensemble: Ensemble, points: IntArray, *, is_joint: bool = True) -> FloatArray:
    described = ensemble.describe(points, CHAIN.costs(points).astype(float))
    return ensemble.beliefs(described, RNG(4), is_joint=is_joint)


def test_shares_are_those_that_make_left_out_labels_most_probable() -> None:
    """Of two models that are each right on some labels, by a search over all shares."""
    densities = np.log([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 2 + [[0.5, 0.5]])
    grid = np.linspace(0.001, 0.999, 999)
    likelihood = [np.log(np.exp(densities) @ [share, 1 - share]).sum() for share in grid]
    found = stacked(densities, np.array([1e-9, 1e-9]))
    assert found.sum() == pytest.approx(1)
    assert found[0] == pytest.approx(grid[int(np.argmax(likelihood))], abs=0.01)
    assert stacked(densities, np.array([1e6, 1e6])).tolist() == pytest.approx([0.5, 0.5], abs=1e-3)


def test_models_are_drawn_from_in_one_order_between_judgements() -> None:
    """Draws are made in this order, so it must not depend on the hashes of names, which differ between processes."""
    ensemble = fitted(summed(POINTS) + RNG(5).normal(scale=0.2, size=60))
    ensemble.shares = {"process": 0.1, "slopes": 0.2, "size": 0.3, "additive": 0.4}
    ensemble.fit(POINTS, CHAIN.costs(POINTS).astype(float), summed(POINTS), judge=False)
    assert list(ensemble._sums) == ["size", "additive", "slopes"]


def test_the_process_has_the_draws_where_effects_do_not_add_up() -> None:
    assert fitted(rugged(POINTS)).best_model == "process"
    assert fitted(summed(POINTS) + RNG(5).normal(scale=0.2, size=60)).best_model == "additive"


def test_what_is_believed_is_near_the_truth_in_both() -> None:
    unseen = RNG(6).integers(4, size=(50, 3))
    for truth in (summed, rugged):
        ensemble = fitted(truth(POINTS))
        for is_joint in (True, False):
            values = believed(ensemble, unseen, is_joint=is_joint)
            assert values.shape == (50, 64)
            assert np.mean((values.mean(axis=1) - truth(unseen)) ** 2) < 0.2 * truth(unseen).var()


@pytest.mark.parametrize(("warp", "floor"), [(np.exp, 0.0), (lambda values: 100 + np.exp(2 * values), 100.0)])
def test_values_with_a_long_tail_are_modelled_by_logarithms_above_a_floor(warp: object, floor: float) -> None:
    assert callable(warp)
    values = warp(summed(POINTS))
    ensemble = fitted(values)
    assert ensemble.floor is not None
    assert ensemble.floor < values.min()
    assert abs(ensemble.floor - floor) < 0.3 * (np.median(values) - floor)
    assert ensemble.modelled(values) == pytest.approx(np.log(values - ensemble.floor))
    assert believed(ensemble, POINTS).min() >= ensemble.floor


def test_ranks_and_sums_are_modelled_as_they_are() -> None:
    ranks = np.argsort(np.argsort(summed(POINTS))) + 1.0
    assert fitted(ranks).floor is None
    assert fitted(20 + summed(POINTS)).floor is None
    assert fitted(np.full(60, 2.0)).floor is None


def test_sums_are_believed_to_miss_something_of_every_network() -> None:
    """Without lack of fit, draws of a network come closer together."""
    spreads = []
    for factor in (0.0, 1.0):
        ensemble = fitted(rugged(POINTS), settings=EnsembleSettings(lack_of_fit=factor))
        ensemble.shares = {"additive": 1.0}
        ensemble.begin_round(RNG(3), 64)
        spreads.append(believed(ensemble, POINTS).std(axis=1).mean())
    assert spreads[1] > 1.2 * spreads[0]


def with_shares(values: FloatArray, **shares: float) -> Ensemble:
    ensemble = fitted(values)
    ensemble.shares = shares
    ensemble.begin_round(RNG(3), 64)
    return ensemble


def test_scores_are_the_mean_of_the_best_sum_and_a_draw_by_the_shares() -> None:
    noisy = summed(POINTS) + RNG(5).normal(scale=0.2, size=60)
    ensemble = with_shares(noisy, additive=1.0)
    mean, drawn = (score.of(CHAIN, POINTS) for score in ensemble.scores(RNG(5)))
    assert np.corrcoef(mean, believed(ensemble, POINTS).mean(axis=1))[0, 1] == pytest.approx(1)
    assert 0.9 < np.corrcoef(mean, drawn)[0, 1] < 0.9999
    for score in with_shares(noisy, size=1.0).scores(RNG(5)):
        assert all((terms == 0).all() for terms in score.stages)


def test_draws_by_the_process_have_its_mean_and_deviation_at_every_network() -> None:
    ensemble, unseen = with_shares(rugged(POINTS), process=1.0), RNG(6).integers(4, size=(50, 3))
    together, apart = (believed(ensemble, unseen, is_joint=is_joint) for is_joint in (True, False))
    assert together.mean(axis=1) == pytest.approx(apart.mean(axis=1), rel=1e-3, abs=1e-3)
    spread = apart.std(axis=1)
    uncertain = spread > 0.2 * spread.max()  # what is known exactly is drawn with a deviation that is only almost 0
    assert 2 < uncertain.sum() < 50
    ratios = together.std(axis=1)[uncertain] / spread[uncertain]
    assert ratios == pytest.approx(np.full(len(ratios), ratios[0]), rel=0.02)
    assert 1 < ratios[0] < 1.05  # evenly spaced quantiles spread a little less than the normal distribution


def test_without_judging_shares_and_variances_are_kept() -> None:
    ensemble = fitted(rugged(POINTS[:40]), POINTS[:40])
    before = dict(ensemble.shares)
    ensemble.fit(POINTS, CHAIN.costs(POINTS).astype(float), rugged(POINTS), judge=False)
    ensemble.begin_round(RNG(3), 64)
    assert ensemble.shares == before
    assert np.isfinite(believed(ensemble, POINTS)).all()


@pytest.mark.parametrize("below", [0.0, 1e-3, 1.0])
def test_a_label_below_the_floor_of_the_earlier_ones_moves_the_floor(below: float) -> None:
    """Such as an error of zero, after labels that were all above."""
    values = np.exp(2 * summed(POINTS))
    ensemble = fitted(values[:40], POINTS[:40])
    assert ensemble.floor is not None
    values[45] = ensemble.floor - below
    ensemble.fit(POINTS, CHAIN.costs(POINTS).astype(float), values, judge=False)
    assert ensemble.floor is None or ensemble.floor < values.min()
    ensemble.begin_round(RNG(3), 64)
    assert np.isfinite(believed(ensemble, POINTS)).all()


@pytest.mark.parametrize("truth", [summed, rugged])
def test_estimates_of_noisy_labels_are_nearer_to_the_truth(truth: Callable[[IntArray], FloatArray]) -> None:
    points = RNG(8).integers(4, size=(120, 3))
    noise = RNG(9).normal(scale=0.5, size=120)
    away = fitted(truth(points) + noise, points).estimates() - truth(points)
    assert (away**2).mean() < 0.6 * (noise**2).mean()


def test_estimates_of_exact_labels_are_the_labels() -> None:
    """What sums miss of a network is no noise."""
    for labels in (rugged(POINTS), np.exp(summed(POINTS))):
        assert fitted(labels).estimates() == pytest.approx(labels, abs=0.1 * labels.std())


@pytest.mark.slow
def test_estimates_of_many_labels_are_complete() -> None:
    points = RNG(10).integers(4, size=(500, 3))
    labels = summed(points) + RNG(11).normal(scale=0.3, size=500)
    estimates = fitted(labels, points).estimates()
    assert estimates.shape == (500,)
    assert np.mean((estimates - summed(points)) ** 2) < np.mean((labels - summed(points)) ** 2)
