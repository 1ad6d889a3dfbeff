"""Who goes on at a rung: the best of one in eta, fronts first, ends before the middle; the best is never stopped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sret_nas.arrays import FloatArray
from trials.strategies.early_stopping import MAX_COMPARED, SuccessiveHalving, epsilon_net, fractions_of, rank_of, scaled

POINTS = arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 3)),
    elements=st.integers(0, 4).map(float),  # few values, so that there are ties
)


def dominates(one: FloatArray, other: FloatArray) -> bool:
    return bool((one <= other).all() and (one < other).any())


@pytest.mark.parametrize(
    ("rungs", "eta", "shares"), [(1, 3, [1]), (2, 3, [1 / 3, 1]), (3, 3, [1 / 9, 1 / 3, 1]), (3, 2, [1 / 4, 1 / 2, 1])]
)
def test_rungs_are_eta_times_as_far_each(rungs: int, eta: int, shares: list[float]) -> None:
    assert fractions_of(rungs, eta) == pytest.approx(shares, rel=1e-15)
    ladder = SuccessiveHalving(rungs, eta)
    assert ladder.last == rungs - 1
    assert sum(map(ladder.increment, range(rungs))) == pytest.approx(1.0, rel=1e-12)
    assert ladder.increment(0) == fractions_of(rungs, eta)[0]


@pytest.mark.parametrize(
    ("rungs", "eta", "number"),
    [
        (1, 3, 7), (2, 3, 2), (3, 3, 12), pytest.param(2, 2, 40, marks=pytest.mark.slow),
        pytest.param(3, 3, 30, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_the_work_that_is_expected_is_what_trials_in_no_order_take(rungs: int, eta: int, number: int) -> None:
    rng, taken = np.random.default_rng(0), []
    for _ in range(60):
        ladder, work = SuccessiveHalving(rungs, eta), 0.0
        for error in rng.random(number):
            rung = 0
            work += ladder.increment(0)
            while rung < ladder.last and ladder.promote(rung, (error,)):
                rung += 1
                work += ladder.increment(rung)
        taken.append(work)
    assert SuccessiveHalving(rungs, eta).expected_work(number) == pytest.approx(np.mean(taken), rel=0.1)
    assert SuccessiveHalving(rungs, eta).expected_work(0) == 0


def test_the_first_eta_go_on_whatever_they_are() -> None:
    rungs = SuccessiveHalving(2, eta=3)
    assert [rungs.promote(0, (error, error)) for error in (0.1, 0.2, 0.3, 0.4)] == [True, True, True, False]


def test_every_rung_has_its_own_trials() -> None:
    rungs = SuccessiveHalving(3, eta=2)
    for error in (0.1, 0.2):
        rungs.promote(0, (error,))
    assert not rungs.promote(0, (0.3,))
    assert rungs.promote(1, (0.9,))


@pytest.mark.slow
@given(POINTS)
def test_who_beats_all_others_goes_on(points: FloatArray) -> None:
    """A well-known implementation takes the order of sorting for ranks, and stops such a trial more often than not."""
    rungs = SuccessiveHalving(2, eta=3)
    for point in points:
        rungs.promote(0, tuple(point))
    assert rungs.promote(0, tuple(points.min(axis=0) - 1))


@pytest.mark.slow
@given(POINTS)
def test_nobody_goes_before_one_that_dominates_him(points: FloatArray) -> None:
    places = [rank_of(points, number) for number in range(len(points))]
    for one, first in zip(points, places, strict=True):
        for other, second in zip(points, places, strict=True):
            if dominates(one, other):
                assert first < second
            if (one == other).all():
                assert first == second
    assert min(places) == 0


@pytest.mark.slow
def test_of_random_trials_one_in_eta_goes_on() -> None:
    rng = np.random.default_rng(0)
    rungs = SuccessiveHalving(2, eta=4)
    went_on = sum(rungs.promote(0, tuple(point)) for point in rng.random((600, 2)))
    assert went_on == pytest.approx(600 / 4, abs=30)  # 3 standard deviations


@pytest.mark.slow
def test_a_trial_is_compared_with_the_last_ones() -> None:
    rungs = SuccessiveHalving(2, eta=3)
    for _ in range(MAX_COMPARED):
        rungs.promote(0, (0.5,))
    assert not rungs.promote(0, (0.6,))
    for _ in range(MAX_COMPARED):
        rungs.promote(0, (0.7,))
    assert rungs.promote(0, (0.6,))


def test_an_epsilon_net_takes_the_ends_before_the_middle() -> None:
    front = np.array([[0.5, 0.5], [0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.8, 0.2]])
    # from (0, 1) the farthest is (1, 0); then the middle, 0.71 from both; then (0.8, 0.2), 0.28 from (1, 0), and last
    # (0.1, 0.9), 0.14 from (0, 1)
    assert epsilon_net(front).tolist() == [1, 3, 0, 4, 2]
    assert [rank_of(front, number) for number in range(5)] == [2, 0, 4, 1, 3]


@given(POINTS)
def test_an_epsilon_net_is_what_brute_force_finds(points: FloatArray) -> None:
    left = list(range(len(points)))
    order = [min(left, key=lambda row: (*points[row], row))]
    left.remove(order[0])
    while left:
        nearest = [min(np.linalg.norm(points[row] - points[chosen]) for chosen in order) for row in left]
        order.append(left.pop(int(np.argmax(nearest))))
    assert epsilon_net(points).tolist() == order


def test_no_points_have_an_empty_net() -> None:
    assert epsilon_net(np.zeros((0, 2))).tolist() == []


def test_objectives_count_as_shares_of_their_range() -> None:
    assert scaled(np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0]])).tolist() == [[0, 0], [1, 0], [0.5, 0]]
