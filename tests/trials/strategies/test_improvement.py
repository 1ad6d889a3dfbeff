"""Choosing by expected hypervolume, against the hypervolume of whole fronts."""

from __future__ import annotations

import numpy as np
import pytest

from sret_nas.arrays import FloatArray
from sret_nas.pareto import hypervolume
from trials.strategies.improvement import WIDE, Improvement, InSeveralCosts, _Tail, improvement

COSTS = np.array([[1.0], [2.0], [4.0]])
VALUES = np.array([0.9, 0.5, 0.3])


def of_one_cost(new_costs: list[float], beliefs: list[list[float]]) -> Improvement:
    return improvement(COSTS, VALUES, np.array(new_costs)[:, None], np.array(beliefs))


def added(costs: FloatArray, values: FloatArray, new_cost: FloatArray, value: float, corner: FloatArray) -> float:
    """Returns hypervolume that one more point adds inside the corner (value, costs...)."""
    known = [(value, *cost) for value, cost in zip(values.tolist(), costs.tolist(), strict=True)]
    bounds = tuple(corner.tolist())
    return hypervolume([*known, (value, *new_cost.tolist())], bounds) - hypervolume(known, bounds)


@pytest.mark.parametrize("max_steps", [400, 0])
@pytest.mark.parametrize("seed", range(5))
def test_with_one_cost_gains_are_exact(seed: int, max_steps: int) -> None:
    """Gains of random candidates, some above the front and some taken before, equal differences of hypervolume: also
    where beaten points are left out."""
    rng = np.random.default_rng(seed)
    costs, values = rng.integers(1, 9, (6, 1)).astype(float), rng.random(6)  # equal costs happen
    new_costs, beliefs = rng.integers(1, 9, (12, 1)).astype(float), rng.random((12, 3)) * 1.2
    gained = improvement(costs, values, new_costs, beliefs, max_steps)
    corner = np.array([values.max() + 0.1 * np.ptp(values), max(costs.max(), new_costs.max())])

    def expected(at: int, known: list[int]) -> float:
        with_known = [np.concatenate([values, beliefs[known, draw]]) for draw in range(3)]
        places = np.concatenate([costs, new_costs[known]])
        return sum(added(places, with_known[draw], new_costs[at], beliefs[at, draw], corner) for draw in range(3))

    np.testing.assert_allclose(gained.gains(12), [expected(at, []) for at in range(12)], atol=1e-12)
    gained.take(4)
    gained.take(7)
    np.testing.assert_allclose(gained.gains(10), [expected(at, [4, 7]) for at in range(10)], atol=1e-12)


@pytest.mark.parametrize("num_costs", [1, 2])
def test_costs_of_a_wide_range_count_by_their_logarithms(num_costs: int) -> None:
    """Each cost by itself: with two, only the first is wide."""
    rng = np.random.default_rng(3)
    logs, values = rng.uniform(0, 1, (8, num_costs)), rng.random(8)
    logs[0], logs[1] = 0.0, np.log(WIDE + 1e-6)
    logs[:, 1:] /= 2
    new_logs, beliefs = rng.uniform(0, 1, (6, num_costs)), rng.random((6, 2))
    expected_of = [logs[:, :1], np.exp(logs[:, 1:])], [new_logs[:, :1], np.exp(new_logs[:, 1:])]
    wide = improvement(np.exp(logs), values, np.exp(new_logs), beliefs).gains(6)
    # Logarithms begin at 0, so they do not count as wide.
    expected = improvement(np.hstack(expected_of[0]), values, np.hstack(expected_of[1]), beliefs).gains(6)
    np.testing.assert_allclose(wide, expected, rtol=1e-9)
    assert wide.max() > 0


def test_narrow_costs_count_as_they_are() -> None:
    """A step of one at little cost gains as much as one at much, unless the range is wide."""
    costs, values = np.array([[1.0], [9.0]]), np.array([1.0, 0.0])
    gained = improvement(costs, values, np.array([[2.0], [3.0]]), np.array([[0.5], [0.5]])).gains(2)
    np.testing.assert_allclose(gained, [0.5 * 7, 0.5 * 6])


def test_a_cost_of_nothing_has_no_logarithm() -> None:
    costs, values = np.array([[1.0], [100.0]]), np.array([1.0, 0.0])
    gained = improvement(costs, values, np.array([[0.0]]), np.array([[0.5]])).gains(1)
    np.testing.assert_allclose(gained, [0.6 * 1 + 0.5 * 99])  # the worst is 1.1, where nothing is known


def test_with_two_costs_gains_are_hypervolume_up_to_the_sample_of_levels() -> None:
    rng = np.random.default_rng(0)
    costs, values = 1 + rng.random((8, 2)), rng.random(8)
    new_costs, beliefs = 1 + rng.random((6, 2)), rng.random((6, 1))
    gained = improvement(costs, values, new_costs, beliefs)
    assert isinstance(gained, InSeveralCosts)
    every = np.concatenate([costs, new_costs])
    low, high = every.min(axis=0), every.max(axis=0)
    corner = np.array([values.max() + 0.1 * np.ptp(values), *high])
    expected = [added(costs, values, new_costs[at], float(beliefs[at, 0]), corner) for at in range(6)]
    volume = np.prod(high - low)
    assert max(expected) > 0.03 * volume
    np.testing.assert_allclose(gained.gains(6) / 256 * volume, expected, atol=0.004 * volume)


def test_an_outlier_at_the_least_cost_does_not_decide_what_improves() -> None:
    """Of the labels one is a hundred times the others; a network as cheap that halves it is not worth it."""
    costs = np.array([[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]])
    values = np.array([100.0, 1.0, 0.9, 0.8, 0.7, 0.6])
    gained = improvement(costs, values, np.array([[1.0], [3.0]]), np.array([[50.0], [0.5]]))
    assert gained.choose(1, 2) == [1]


def test_outliers_still_count_so_that_the_cheap_end_is_searched() -> None:
    """The cheap end of a front lies far above all other values; a network that improves it gains."""
    costs = np.array([[1.0], [20.0], [30.0], [40.0], [50.0], [60.0], [70.0], [80.0]])
    values = np.array([9.0, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1.0])
    low, high = np.quantile(values, [0.25, 0.75])
    assert values[0] > high + 3 * (high - low)
    gained = improvement(costs, values, np.array([[2.0], [80.0]]), np.array([[4.0], [0.97]]))
    assert gained.choose(1, 2) == [0]


def test_the_scale_of_values_keeps_their_order() -> None:
    tail = _Tail.of(np.array([1.0, 2.0, 3.0, 4.0]))
    values = np.array([-5.0, 0.0, 7.7, 8.0, 20.0, 1e100])
    shortened = tail.shortened(values)
    assert shortened[:3].tolist() == values[:3].tolist()  # the fence is at 3.25 + 3 * 1.5 = 7.75
    assert (np.diff(shortened) > 0).all()
    assert shortened[4] == pytest.approx(7.75 + 1.5 * np.log(1 + 12.25 / 1.5))
    assert _Tail.of(np.ones(4)).shortened(values).tolist() == values.tolist()


def test_the_second_choice_knows_the_first() -> None:
    """The two best alone are nearly the same network: only one of them is chosen."""
    assert of_one_cost([2.5, 2.51, 1.2], [[0.2], [0.2], [0.6]]).choose(2, 3) == [0, 2]


def test_running_candidates_count_with_what_is_believed_of_them() -> None:
    gained = of_one_cost([2.5, 1.2, 2.5], [[0.2], [0.6], [0.15]])
    gained.take(2)
    assert gained.choose(1, 2) == [1]


def test_it_is_averaged_over_beliefs() -> None:
    """A gamble on a large gain beats a certain small one, by its mean."""
    assert of_one_cost([2.0, 2.0], [[0.45, 0.45], [0.1, 0.9]]).choose(1, 2) == [1]
    assert of_one_cost([2.0, 2.0], [[0.25, 0.25], [0.1, 0.9]]).choose(1, 2) == [0]


def test_without_costs_the_least_value_is_best() -> None:
    nothing = np.zeros((3, 0))
    gained = improvement(nothing, VALUES, nothing, np.array([[0.28], [0.1], [0.29]]))
    assert gained.choose(2, 3)[0] == 1


@pytest.mark.parametrize("number", [0, 5])
def test_no_more_are_chosen_than_there_are(number: int) -> None:
    assert len(of_one_cost([2.0, 3.0], [[0.4], [0.3]]).choose(number, 2)) == min(number, 2)
