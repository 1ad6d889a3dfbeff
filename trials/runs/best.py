"""The rule that chooses the network of `best.yaml`, with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sret_nas.plurals import counted

from .objective_texts import error_text
from .objectives import Objective, best_of, final_error_of
from .recommendation import BestBy, Recommendation, Recommendations
from .trial import Trial
from .uncertainty import deviation_of_validation


class Choice(NamedTuple):
    """The trial of `best.yaml`, and the reason in one sentence."""

    trial: Trial
    reason: str


def choose_best(
    trials: Sequence[Trial], objectives: Sequence[Objective], best_by: BestBy, recommended: Recommendations | None
) -> Choice:
    """Chooses the trial of `best.yaml`.

    With `expected`, it is the evaluated recommendation of the largest cost: at equal structure, whole trainings favour
    size, and the proxy is not asked about it. Without any recommendation, or with `proxy`, it is the least error.

    Raises `ValueError` if no trial has finished.
    """
    error = error_text(objectives).title
    by_number = {trial.number: trial for trial in trials}
    if best_by == "expected" and recommended is not None:
        for network in recommended.networks:
            trial = by_number.get(network.number)
            if trial is not None and trial.result is not None:
                return Choice(trial, _reason(network, recommended, by_number, error))
    if any("fine-tuned" in trial.finals for trial in trials):
        return Choice(best_of(trials, objectives), f"it has the least {error} of all fine-tuned proxies")
    return Choice(best_of(trials, objectives), f"its proxy has the least {error}")


def size_after_tuning(
    trials: Sequence[Trial], objectives: Sequence[Objective], recommended: Recommendations | None
) -> str | None:
    """Returns a sentence that compares the ends of the budget after fine-tuning, which trains longer than a trial.

    Returns None unless the networks at the largest and at the smallest share of the budget were both fine-tuned.
    """
    shares = () if recommended is None else recommended.shares
    by_number = {trial.number: trial for trial in trials}
    finals = [by_number[network.number].finals.get("fine-tuned") for network in shares]
    if len(shares) < 2 or (largest := finals[0]) is None or (smallest := finals[-1]) is None:
        return None
    errors = [final_error_of(final, objectives) for final in (largest, smallest)]
    images = largest.num_val_images
    noise = 2 * math.hypot(*(deviation_of_validation(*each) for each in zip((largest, smallest), errors, strict=True)))
    title = error_text(objectives).title
    return (
        f"Fine-tuned, the {title} is {errors[0]:.2%} at {shares[0].label} and {errors[1]:.2%} at {shares[-1].label}; "
        f"with {counted(images, 'image')}, differences below {100 * noise:.1f} points can be chance"
    )


def _reason(network: Recommendation, recommended: Recommendations, by_number: Mapping[int, Trial], error: str) -> str:
    structure = f"of the networks that cost about {network.label}, it has the least {error} by the model of all trials"
    larger = recommended.networks[: recommended.networks.index(network)]
    if larger:
        missing = [by_number.get(other.number) for other in larger]
        did = "failed" if all(trial is not None and trial.failure for trial in missing) else "have not ended"
        return f"{structure}; the trials of what was to be recommended at {_labels(larger)} {did}"
    if recommended.size is None:
        return structure
    low, high = (100 * bound for bound in recommended.size.interval)
    change = (
        f"{structure}; from {recommended.shares[-1].label} to {recommended.shares[0].label} the proxies' error changes "
        f"by {100 * recommended.size.difference:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"
    )
    if recommended.size.is_seen:
        return f"{change}, so they see the gain from size"
    taken = "the size is taken from whole trainings of this family, which gain from it"
    if low > 0:
        return f"{change}, which speaks against size, but they are trained shortly: {taken}"
    return f"{change}, no gain beyond noise, so {taken}"


def _labels(networks: Sequence[Recommendation]) -> str:
    return " and ".join(network.label for network in networks)
