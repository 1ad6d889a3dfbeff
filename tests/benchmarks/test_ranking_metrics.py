"""Ranking fidelity: tau-b against scipy and by hand, ties, bins, tiny inputs, regret, and what noise allows."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kendalltau

from benchmarks.ranking.metrics import (
    cost_bins,
    interval,
    noise_ceiling,
    noise_sd,
    regret_at,
    regret_in_bins,
    resamples,
    tau_b,
    taus,
)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [3, 1000])
def test_tau_is_scipys_with_and_without_ties(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.integers(levels, size=(2, 25)).astype(float)
    other += one
    assert tau_b(one, other) == pytest.approx(kendalltau(one, other).statistic)
    assert tau_b(one, one) == pytest.approx(1)
    assert tau_b(one, -one) == pytest.approx(-1)


def test_tau_in_bins_looks_at_no_pair_across_bins() -> None:
    predicted = np.array([1.0, 2.0, 12.0, 11.0, 13.0])
    measured = np.array([2.0, 1.0, 11.0, 12.0, 13.0])
    bins = np.array([0, 0, 1, 1, 1])
    # inside: (1, 2) and (12, 11) the wrong way round, two pairs the right way
    assert tau_b(predicted, measured, bins) == pytest.approx((2 - 2) / 4)
    assert tau_b(predicted, measured) == pytest.approx((8 - 2) / 10)
    assert tau_b(predicted, measured, np.zeros(5, dtype=int)) == tau_b(predicted, measured)
    tied = np.array([2.0, 2.0, 11.0, 11.0, 13.0])
    assert tau_b(predicted, tied, bins) == pytest.approx(2 / np.sqrt(4 * 2))


@pytest.mark.parametrize("row", [[], [1.0], [3.0, 3.0]])
def test_tau_of_what_cannot_be_ranked_is_no_number(row: list[float]) -> None:
    assert np.isnan(tau_b(np.array(row), np.arange(float(len(row)))))


def test_samples_are_those_with_networks_repeated() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 9))
    bins = np.arange(9) // 3
    counts = rng.integers(3, size=(20, 9)).astype(float)
    for row, value, inside in zip(counts, taus(one, other, counts), taus(one, other, counts, bins), strict=True):
        at = np.repeat(np.arange(9), row.astype(int))
        assert value == pytest.approx(kendalltau(one[at], other[at]).statistic)
        signs = [
            np.sign((one[i] - one[j]) * (other[i] - other[j])) for i, j in combinations(at, 2) if bins[i] == bins[j]
        ]
        assert inside == pytest.approx(np.sum(signs) / np.count_nonzero(signs))


def test_resamples_draw_as_many_as_there_are_equally_often() -> None:
    counts = resamples(8)
    assert set(counts.sum(axis=1)) == {8.0}
    assert counts.mean(axis=0) == pytest.approx(np.ones(8), abs=0.1)
    assert counts.var() == pytest.approx(7 / 8, rel=0.05)  # binomial


def test_an_interval_leaves_out_what_is_no_number() -> None:
    values = np.concatenate([np.linspace(0, 1, 1001), [np.nan] * 5])
    assert interval(values) == pytest.approx((0.025, 0.975))


def test_bins_hold_equally_many_and_are_ordered_by_cost() -> None:
    assert cost_bins(np.array([50.0, 10.0, 30.0, 20.0, 40.0, 60.0]), 3).tolist() == [2, 0, 1, 0, 1, 2]
    assert np.bincount(cost_bins(np.ones(10), 4)).tolist() == [3, 2, 3, 2]


def test_regret_is_what_the_best_chosen_lacks() -> None:
    predicted, measured = np.array([0.3, 0.1, 0.2, 0.4]), np.array([0.5, 0.7, 0.6, 0.4])
    assert [regret_at(predicted, measured, number) for number in (1, 2, 3, 4, 9)] == pytest.approx(
        [0.3, 0.2, 0.1, 0, 0]
    )
    assert regret_at(np.ones(4), measured, 1) == pytest.approx(0.1)  # ties: the first
    assert regret_in_bins(predicted, measured, np.array([0, 0, 1, 1])) == pytest.approx((0.2 + 0.2) / 2)


def test_noise_of_one_training_from_pairs() -> None:
    rng = np.random.default_rng(0)
    assert noise_sd(rng.normal(scale=0.3, size=(20_000, 2))) == pytest.approx(0.3, rel=0.02)
    assert noise_sd(np.array([[1.0, 2.0], [4.0, 4.0]])) == pytest.approx(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("within", [True, False])
def test_the_ceiling_is_what_the_truth_reaches(within: bool) -> None:
    rng = np.random.default_rng(1)
    bins = np.repeat([0, 1], 60)
    truth = 3.0 * bins + rng.normal(size=120)
    results = truth + rng.normal(scale=0.7, size=(40, 120))
    reached = np.mean([tau_b(truth, row, bins if within else None) for row in results])
    ceilings = [noise_ceiling(row, 0.7, bins, within) for row in results[:3]]
    assert np.mean(ceilings) == pytest.approx(reached, abs=0.03)
    assert noise_ceiling(results[0], 1e-9, bins, within) == pytest.approx(1)


def test_where_all_is_noise_nothing_is_reached_inside_bins() -> None:
    measured, bins = np.random.default_rng(0).normal(size=20), np.repeat([0, 1], 10)
    assert noise_ceiling(measured, 100.0, bins, within=True) == 0
    assert noise_ceiling(measured + 500 * bins, 100.0, bins, within=False) > 0.4
