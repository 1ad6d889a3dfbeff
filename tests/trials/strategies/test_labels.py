"""What stopped trials would have come to is predicted from those that went on."""

from __future__ import annotations

import numpy as np
import pytest

from trials.strategies.labels import PRIOR_PAIRS, Observations


def test_final_values_are_what_was_told() -> None:
    labels = Observations[str]()
    labels.add_partial("a", "A", 0, (0.9, 7.0))
    labels.add("a", "A", (0.3, 7.0))
    labels.add("b", "B", (0.2, 8.0))
    assert labels.points == ["A", "B"]
    assert labels.values().tolist() == [[0.3, 7.0], [0.2, 8.0]]
    assert labels.is_final.tolist() == [True, True]
    assert len(labels) == 2


def test_a_stopped_trial_is_worth_what_the_line_says() -> None:
    """Two rungs and the end. Values fall by 0.1 to the second rung, then by half of what is left: exact lines."""
    labels = Observations[int]()
    first = np.linspace(0.5, 0.9, 60)
    for key, value in enumerate(first):
        labels.add_partial(key, key, 0, (value, 5.0 + key))
    for key, value in enumerate(first[:40]):
        labels.add_partial(key, key, 1, (value - 0.1, 5.0 + key))
    for key, value in enumerate(first[:20]):
        labels.add(key, key, ((value - 0.1) / 2, 5.0 + key))
    found = labels.values()
    assert found[:20, 0] == pytest.approx((first[:20] - 0.1) / 2, rel=1e-12)
    assert labels.is_final.tolist() == [True] * 20 + [False] * 40

    def line(x: np.ndarray, y: np.ndarray, every: np.ndarray) -> tuple[float, float]:
        prior = PRIOR_PAIRS * every.var()
        slope = (((x - x.mean()) * (y - y.mean())).sum() + prior) / (((x - x.mean()) ** 2).sum() + prior)
        return y.mean() - slope * x.mean(), slope

    offset, slope = line(first[:20] - 0.1, (first[:20] - 0.1) / 2, first[:40] - 0.1)
    assert found[20:40, 0] == pytest.approx(offset + slope * (first[20:40] - 0.1), rel=1e-12)
    assert slope < 0.85  # of 0.5 told by 20 pairs, drawn to 1 by three
    assert found[40:, 0] == pytest.approx(offset + slope * (first[40:] - 0.1), rel=1e-9)  # from rung 0 to 1: exact
    assert found[:, 1] == pytest.approx(5.0 + np.arange(60), rel=1e-12)  # costs are what they are


def test_before_the_first_end_all_are_as_at_the_farthest_rung() -> None:
    labels = Observations[int]()
    for key, value in enumerate((0.5, 0.6, 0.7)):
        labels.add_partial(key, key, 0, (value,))
    assert labels.values().tolist() == [[0.5], [0.6], [0.7]]
    labels.add_partial(0, 0, 1, (0.4,))
    assert labels.values() == pytest.approx(np.array([[0.4], [0.5], [0.6]]))
    assert not labels.is_final.any()


def test_a_single_pair_moves_all_alike_and_equal_values_do_no_harm() -> None:
    labels = Observations[int]()
    for key in range(3):
        labels.add_partial(key, key, 0, (0.5,))
    labels.add(1, 1, (0.2,))
    assert labels.values() == pytest.approx(np.array([[0.2], [0.2], [0.2]]))
