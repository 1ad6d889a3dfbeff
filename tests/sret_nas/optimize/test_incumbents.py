"""The best networks found so far: which are kept, and that limits never prune one that would be."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.errors import UserError
from sret_nas.optimize import incumbents
from sret_nas.optimize.incumbents import BestIncumbents, FrontIncumbents, _levels, distinct_front


def ids_of(numbers: list[int]) -> IntArray:
    """Returns ids of shape (3, n) that differ in every row."""
    return np.array([numbers, [10 * number for number in numbers], [-number for number in numbers]])


class TestTheBest:
    def test_the_least_scores_are_kept_in_order_and_the_last_of_them_is_the_limit(self) -> None:
        best, costs = BestIncumbents(3), np.zeros((2, 5))
        best.add(ids_of([1, 2]), costs[:, :2], np.array([4.0, 1.0]))
        assert best.ids.tolist() == ids_of([2, 1]).tolist()
        assert best.limit(costs).tolist() == [np.inf] * 5
        best.add(ids_of([3, 4, 5, 6]), costs[:, :4], np.array([9.0, 2.0, 8.0, 0.0]))
        assert best.ids.tolist() == ids_of([6, 2, 4]).tolist()
        assert best.limit(costs).tolist() == [2.0] * 5

    def test_a_network_that_is_added_again_counts_once(self) -> None:
        best, costs = BestIncumbents(3), np.zeros((2, 2))
        for _ in range(3):
            best.add(ids_of([1, 2]), costs, np.array([4.0, 1.0]))
        assert best.ids.tolist() == ids_of([2, 1]).tolist()
        assert best.limit(costs).tolist() == [np.inf] * 2

    def test_of_equal_scores_the_earlier_network_stays(self) -> None:
        best, costs = BestIncumbents(2), np.zeros((2, 3))
        best.add(ids_of([7, 8, 1]), costs, np.array([1.0, 1.0, 1.0]))
        assert sorted(best.ids[0].tolist()) == [7, 8]


LOW, HIGH = np.array([[100.0], [7.0]]), np.array([[90_000.0], [5_000.0]])


def drawn(number: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Returns costs of shape (2, n) between the bounds, and scores that fall with them."""
    rng = np.random.default_rng(seed)
    costs = np.exp(rng.uniform(np.log(LOW), np.log(HIGH), size=(2, number))).round()
    return costs, rng.normal(size=number) - np.log(costs).sum(axis=0)


@pytest.mark.parametrize("axes", [[0], [1], [0, 1]])
class TestAFront:
    def test_it_holds_what_nothing_dominates(self, axes: list[int]) -> None:
        front = FrontIncumbents(axes, LOW, HIGH)
        costs, scores = drawn(300, seed=0)
        for first, last in pairwise((0, 1, 120, 300)):
            front.add(ids_of(list(range(first, last))), costs[:, first:last], scores[first:last])
        rows = np.column_stack([*costs[axes], scores])
        is_beaten = [any((row >= other).all() and (row > other).any() for other in rows) for row in rows]
        expected = np.flatnonzero(~np.array(is_beaten)).tolist()
        assert front.ids.shape == (3, len(expected))
        assert sorted(front.ids[0].tolist()) == expected
        assert (front.ids == ids_of(front.ids[0].tolist())).all()

    def test_a_limit_is_a_score_of_no_higher_costs_and_prunes_nothing_that_would_be_kept(self, axes: list[int]) -> None:
        front = FrontIncumbents(axes, LOW, HIGH)
        costs, scores = drawn(60, seed=1)
        front.add(ids_of(list(range(60))), costs, scores)
        places, _ = drawn(400, seed=2)
        limits = front.limit(places)
        for place, limit in zip(places[axes].T, limits, strict=True):
            cheaper = scores[(place >= costs[axes].T).all(axis=1)]
            assert limit in (*cheaper, np.inf)
            assert limit >= min(cheaper, default=np.inf)
        assert front.limit(HIGH).tolist() == [scores.min()]
        exact = [scores[(place >= costs[axes].T).all(axis=1)].min(initial=np.inf) for place in places[axes].T]
        assert np.mean(limits == exact) > 0.8

    def test_it_keeps_few_networks_beside_its_front(self, axes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(incumbents, "MAX_FRONT", 40)
        front = FrontIncumbents(axes, LOW, HIGH)
        for number in range(1, 100):
            front.add(ids_of([number]), HIGH, np.array([-float(number)]))
            assert len(front._rows) <= 2 + 20
        assert front.ids[0].tolist() == [99]

    def test_a_front_of_too_many_is_refused(self, axes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(incumbents, "MAX_FRONT", 40)
        costs = LOW + np.arange(41)
        front = FrontIncumbents(axes, LOW, HIGH)
        front.add(ids_of(list(range(40))), costs[:, :40], -costs[0, :40])
        assert front.ids.shape == (3, 40)
        front.add(ids_of([40]), costs[:, 40:], -costs[0, 40:])
        with pytest.raises(UserError, match="at most 40 networks, this one has more: 41 of those"):
            len(front.ids)


@pytest.mark.parametrize(("low", "high"), [(100.0, 90_000.0), (0.0, 1e6), (5.0, 5.0), (3.0, 10.0)])
def test_levels_are_integers_from_end_to_end_and_close_where_costs_are_low(low: float, high: float) -> None:
    levels = _levels(low, high, 64)
    assert levels[0] == low
    assert levels[-1] == high
    assert (np.diff(levels) > 0).all()
    assert (levels == levels.round()).all()
    assert len(levels) <= 66
    if high > low + 1:
        assert levels[1] == low + 1
        assert (np.diff(levels) <= np.maximum(1, 0.6 * levels[1:])).all()


def test_levels_are_evenly_close_where_costs_differ_little() -> None:
    levels = _levels(1e6, 1.1e6, 64)
    assert np.diff(levels).max() < 1e5 / 25


def test_of_equal_rows_a_front_has_the_first() -> None:
    rows = np.array([[3.0, 1.0], [1.0, 2.0], [1.0, 2.0], [2.0, 2.0], [3.0, 1.0], [4.0, 0.0]])
    assert distinct_front(rows).tolist() == [1, 0, 5]
