"""What a score on a few images says of all images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trials.training.error_intervals import (
    balanced_deviation,
    error_deviation,
    error_interval,
    format_interval,
)


@pytest.mark.parametrize(("wrong", "images"), [(0, 359), (5, 359), (180, 359), (10, 10)])
def test_without_a_model_it_is_jeffreys_interval(wrong: int, images: int) -> None:
    expected = stats.beta(wrong + 0.5, images - wrong + 0.5).interval(0.95)
    assert error_interval(wrong / images, images) == pytest.approx(expected)


def test_it_holds_what_new_images_give_as_often_as_it_says() -> None:
    """Errors are drawn with a prior that is wide, then images: the interval holds the error 95 times of 100."""
    rng = np.random.default_rng(0)
    truths = rng.uniform(0.0, 0.3, 2_000)
    intervals = [error_interval(rng.binomial(359, truth) / 359, 359) for truth in truths]
    held = np.mean([low <= truth <= high for truth, (low, high) in zip(truths, intervals, strict=True)])
    assert held == pytest.approx(0.95, abs=0.015)


def test_a_model_s_own_uncertainty_makes_it_wider() -> None:
    """With so many images that they leave nothing open, it is two deviations of the model."""
    low, high = error_interval(0.2, 1e9, 0.01)
    assert (low, high) == pytest.approx((0.2 - 1.96 * 0.01, 0.2 + 1.96 * 0.01), abs=5e-4)
    alone, both = error_interval(0.2, 359), error_interval(0.2, 359, 0.02)
    assert both[1] - both[0] == pytest.approx(np.hypot(alone[1] - alone[0], 2 * 1.96 * 0.02), rel=0.02)


@pytest.mark.parametrize("error", [0.0, 0.003, 0.03, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("images", [10, 359])
def test_the_less_a_model_knows_the_wider_it_is(error: float, images: int) -> None:
    bounds = [error_interval(error, images, deviation) for deviation in np.linspace(0.0, 0.4, 200)]
    lows, highs = np.array(bounds).T
    assert (np.diff(lows) <= 0.0015).all()
    assert (np.diff(highs) >= -0.0015).all()
    assert highs[-1] - lows[-1] > 0.3


@pytest.mark.parametrize(("error", "deviation"), [(-0.02, 0.01), (0.0, 0.0), (1.0, 0.3), (0.5, 9.0)])
def test_bounds_are_shares_whatever_a_model_says(error: float, deviation: float) -> None:
    low, high = error_interval(error, 20, deviation)
    assert 0 <= low < high <= 1


def test_a_balanced_error_varies_as_drawn_images_do() -> None:
    """Of classes with 200 and 10 images and errors of 10 and 40 %."""
    rng, images, rates = np.random.default_rng(0), np.array([200, 10, 0]), np.array([0.1, 0.4, 0.0])
    wrong = rng.binomial(images, rates, (4_000, 3))
    measured = (wrong[:, :2] / images[:2]).mean(axis=1).std()
    formula = np.sqrt((rates * (1 - rates))[:2] / images[:2]).tolist()
    assert measured == pytest.approx(np.hypot(*formula) / 2, rel=0.05)
    assert balanced_deviation(np.array([20, 4, 0]), images) == pytest.approx(measured, rel=0.05)
    assert measured > 1.4 * error_deviation(0.25, 210), "or counting plain images would do"


def test_a_class_without_an_error_still_leaves_something_open() -> None:
    assert balanced_deviation(np.array([0, 0]), np.array([100, 1])) > 0.2


@pytest.mark.parametrize(
    ("interval", "text"),
    [((0.0123, 0.0431), "1.2 to 4.3"), ((0.12345, 0.12399), "12.35 to 12.40"), ((0.1, 0.6), "10 to 60")],
)
def test_digits_fit_the_width(interval: tuple[float, float], text: str) -> None:
    assert format_interval(interval) == text
