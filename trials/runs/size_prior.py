"""What long trainings say of size. The trainings of a search are too short to tell.

The figures are those of networks of one structure on SReT-Bench's images, and of the published SReT-T and SReT-S. How
they were measured is in docs/sret-bench.md#which-size-should-be-chosen; `benchmarks/sret_bench/size_rules.py` makes
them, and a test compares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from .recommendation import Recommendations
from .trial import Trial

CHANGES_PER_DOUBLING: dict[str, float] = {
    "CIFAR-10": -4.1,
    "Fashion-MNIST": -2.1,
    "ImageNet": -13.8,
}
"""By how many percent of itself the error changes with twice the FLOPs, on each set of images."""


def changes_with_size(times: float) -> tuple[float, float, float]:
    """Returns by which share of itself the error changes with `times` the FLOPs: mean, least and most of the images.

    The error is taken to be a power of the FLOPs, so changes add up in their logarithms.
    """
    changes = [math.log1p(percent / 100) * math.log2(times) for percent in CHANGES_PER_DOUBLING.values()]
    mean, least, most = (math.expm1(change) for change in (fmean(changes), min(changes), max(changes)))
    return mean, least, most


def size_in_long_trainings(trials: Sequence[Trial], recommended: Recommendations | None) -> str | None:
    """Returns a sentence on what the size of the largest recommended network is worth, against that of the smallest.

    Returns None unless the networks at the largest and at the smallest share of the budget have results of other FLOPs.
    """
    shares = () if recommended is None else recommended.shares
    by_number = {trial.number: trial for trial in trials}
    results = [by_number[network.number].result for network in shares]
    if len(shares) < 2 or (largest := results[0]) is None or (smallest := results[-1]) is None:
        return None
    times = largest.target.flops / smallest.target.flops
    if times <= 1:
        return None
    mean, least, most = changes_with_size(times)
    images = list(CHANGES_PER_DOUBLING)
    return (
        f"Long trainings of this family on {', '.join(images[:-1])} and {images[-1]} say of size: with {times:.1f} "
        f"times the FLOPs, as at {shares[0].label} instead of {shares[-1].label}, the error changed by {least:+.0%} to "
        f"{most:+.0%} of itself, {mean:+.0%} on average"
    )
