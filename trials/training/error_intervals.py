"""What a score on a few images says of all images: intervals and standard deviations of errors."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

PROBABILITY = 0.95
"""Probability with which an interval holds the error on new images."""


def error_interval(error: float, images: float, deviation: float = 0.0) -> tuple[float, float]:
    """Returns the bounds between which the error on new images lies with a probability of 95 %.

    Without a deviation it is Jeffreys' interval, Beta(errors + 1/2, images - errors + 1/2), which has sensible bounds
    for errors of 0 and 1 too (Brown, Cai and DasGupta, Interval Estimation for a Binomial Proportion, 2001). With one,
    the Beta distribution has the same mean, and its variance is larger by the square of the deviation. Where that would
    heap it up at 0 or 1 more than Jeffreys' prior is, the bounds are at least 1.96 standard deviations from the mean.

    Args:
        error: Observed or predicted share of these images that is wrong; clipped to 0 to 1.
        images: Their number, or how many images of equal weight tell as much.
        deviation: Standard deviation of `error` itself for these images, such as that of a model's prediction.
    """
    from scipy.special import betaincinv

    mean = (min(max(error, 0.0), 1.0) * images + 0.5) / (images + 1)
    spread = mean * (1 - mean)
    variance = spread / (images + 2) + deviation**2
    concentration, least = spread / variance - 1, 0.5 / min(mean, 1 - mean)
    tail = (1 - PROBABILITY) / 2
    half = 0.0 if concentration > 0.999 * least else NormalDist().inv_cdf(1 - tail) * math.sqrt(variance)
    concentration = max(concentration, least)
    low, high = betaincinv(mean * concentration, (1 - mean) * concentration, [tail, 1 - tail])
    return max(0.0, min(float(low), mean - half)), min(1.0, max(float(high), mean + half))


def error_deviation(error: float, images: float) -> float:
    """Returns the standard deviation of an error by the luck of the images, if all images count alike."""
    return math.sqrt(max(0.0, error * (1 - error)) / images) if images else 0.0


def balanced_deviation(wrong: npt.NDArray[Any], images: npt.NDArray[Any]) -> float:
    """Returns the standard deviation of a mean over classes of errors by the luck of the images.

    It is sqrt(sum over classes of p (1 - p) / n) / K, for the K classes that have images. A class in which no image, or
    every image, is wrong is not known exactly: p is estimated as (wrong + 1/2) / (n + 1).

    Args:
        wrong: The number of wrong images of each class, shape (classes,).
        images: The number of images of each class, shape (classes,).
    """
    has_images = images > 0
    counts = images[has_images]
    rates = (wrong[has_images] + 0.5) / (counts + 1)
    return float(np.sqrt((rates * (1 - rates) / counts).sum()) / has_images.sum())


def format_interval(interval: tuple[float, float]) -> str:
    """Returns the bounds of an error (0 to 1) in per cent, with digits that fit its width, e.g. `1.2 to 4.3`."""
    low, high = (100 * bound for bound in interval)
    digits = 0 if high - low >= 10 else 1 if high - low >= 0.5 else 2
    return f"{low:.{digits}f} to {high:.{digits}f}"
