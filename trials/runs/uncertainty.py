"""How far the errors of a search can lie from those on new images: its images are few, and its model is not certain."""

from __future__ import annotations

from collections.abc import Iterable

from ..engines.results import RetrainResult, TrialResult
from ..training.error_intervals import error_deviation, error_interval, format_interval
from .trial import Trial


def images_of(result: TrialResult) -> float | None:
    """Returns how many validation images of equal weight tell a trial's error; None in old records, which lack it."""
    return result.effective_images or result.val_images or None


def images_of_trials(trials: Iterable[Trial]) -> float | None:
    """Returns the same for a search, whose finished trials are all scored on the same images."""
    return next((images_of(result) for trial in trials if (result := trial.result) is not None), None)


def deviation_of_test(result: RetrainResult) -> float:
    """Returns the standard deviation of a finalist's test error by the luck of the test images."""
    if result.test_deviation is not None:
        return result.test_deviation
    return error_deviation(result.test_error, result.num_test_images)


def deviation_of_validation(result: RetrainResult, error: float) -> float:
    """Returns the standard deviation of a finalist's validation error by the luck of the validation images.

    Args:
        result: The finalist's.
        error: Its error, or the mean over recursion depths of its errors on the same images, which varies no more.
    """
    if result.val_deviation is not None:
        return result.val_deviation
    return error_deviation(error, result.num_val_images)


def predicted_interval(error: float, deviation: float, images: float | None) -> tuple[float, float] | None:
    """Returns the 95 % interval of a predicted error on new images; None if the number of images is not known.

    All scores that a model is fitted to are of the same validation images. So its posterior does not know that these
    are a sample, and the noise of so many images is added. Differences between networks vary less than that: they are
    on the same images.

    Args:
        error: Posterior mean of the error on these images, 0 to 1.
        deviation: Its posterior standard deviation.
        images: How many validation images of equal weight there are.
    """
    return None if images is None else error_interval(error, images, deviation)


def format_prediction(error: float, deviation: float, images: float | None) -> str:
    """Returns a predicted error with its interval on new images, e.g. `2.31% (1.2 to 4.0)`."""
    interval = predicted_interval(error, deviation, images)
    return f"{error:.2%}" + ("" if interval is None else f" ({format_interval(interval)})")
