"""The rule that chooses the network of `best.yaml`, with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .objectives import Objective, best_of, error_named
from .recommendation import BestBy, Recommendation, Recommendations
from .trial import Trial


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
    is_mean = error_named(objectives) == "depth_error"
    error = "mean validation error over its recursion depths" if is_mean else "validation error"
    by_number = {trial.number: trial for trial in trials}
    if best_by == "expected" and recommended is not None:
        for network in recommended.networks:
            trial = by_number.get(network.number)
            if trial is not None and trial.result is not None:
                return Choice(trial, _reason(network, recommended, by_number))
    if any("fine-tuned" in trial.finals for trial in trials):
        return Choice(best_of(trials, objectives), f"it has the least {error} of all fine-tuned proxies")
    return Choice(best_of(trials, objectives), f"its proxy has the least {error}")


def _reason(network: Recommendation, recommended: Recommendations, by_number: Mapping[int, Trial]) -> str:
    structure = f"of the networks with at most {network.label}, the model finds its structure the best"
    larger = recommended.networks[: recommended.networks.index(network)]
    if larger:
        missing = [by_number.get(other.number) for other in larger]
        did = "failed" if all(trial is not None and trial.failure for trial in missing) else "have not ended"
        return f"{structure}; the trials of what was to be recommended at {_labels(larger)} {did}"
    size, (largest, smallest) = recommended.size, (recommended.networks[0], recommended.networks[-1])
    if size is None:
        return structure
    between = f"between {smallest.label} and {largest.label}"
    if size.is_seen:
        return f"{structure}; {between} the proxy's error falls by {-100 * size.difference:.2g} points"
    return (
        f"{structure}; {between} the proxy sees no gain beyond noise ({100 * size.difference:+.2g} points ± "
        f"{200 * size.deviation:.2g}), so size is taken from whole trainings of the family, which gain from it"
    )


def _labels(networks: Sequence[Recommendation]) -> str:
    return " and ".join(network.label for network in networks)
