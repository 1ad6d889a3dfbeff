"""What a search makes small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from sret_nas.pareto import non_dominated

from ..engines.messages import TrialResult
from .records import Trial

Objective = Literal["error", "cross_entropy", "flops", "params", "latency"]
"""Validation error and cross-entropy of the proxy; FLOPs, parameters and predicted latency of the target."""


def objective_values(result: TrialResult, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The objective values of a finished trial, in the order asked for; latency in microseconds."""
    values = {
        "error": result.error,
        "cross_entropy": result.cross_entropy,
        "flops": float(result.target.flops),
        "params": float(result.target.params),
    }
    if result.target.latency_us is not None:
        values["latency"] = float(result.target.latency_us)
    return tuple(values[objective] for objective in objectives)


def comparable_values(result: TrialResult, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Objective values whose differences compare: costs by their logarithm."""
    values = zip(objectives, objective_values(result, objectives), strict=True)
    return tuple(value if name in ("error", "cross_entropy") else math.log(max(value, 1.0)) for name, value in values)


def pareto_front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """The finished trials that no other one beats, cheapest (FLOPs, then error) first. Equals are all kept."""
    finished = [trial for trial in trials if trial.result is not None]
    if not finished:
        return []
    points = np.array([objective_values(trial.result, objectives) for trial in finished if trial.result is not None])
    front = [trial for trial, keep in zip(finished, non_dominated(points), strict=True) if keep]
    return sorted(front, key=by_cost)


def by_cost(trial: Trial) -> tuple[float, ...]:
    """Sorts finished trials, cheapest first: by FLOPs, then error."""
    assert trial.result is not None
    return trial.result.target.flops, trial.result.error, trial.number


def by_accuracy(trial: Trial) -> tuple[float, ...]:
    """Sorts finished trials, most accurate first: by validation error, then cross-entropy, then FLOPs."""
    assert trial.result is not None
    return trial.result.error, trial.result.cross_entropy, trial.result.target.flops, trial.number


def most_accurate(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Trial:
    """The finished trial of least validation error; of equals, of least cross-entropy, then FLOPs.

    Where error is an objective it is one of the front, so that no trial with as little error costs less.
    """
    if "error" in objectives:
        trials = pareto_front(trials, objectives)
    return min((trial for trial in trials if trial.result is not None), key=by_accuracy)


def best_of(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Trial:
    """The network to take: of finalists that of least validation error after training on; else the most accurate."""
    finals = [trial for trial in trials if "fine-tuned" in trial.finals]
    if not finals:
        return most_accurate(trials, objectives)

    def rank(trial: Trial) -> tuple[float, ...]:
        final = trial.finals["fine-tuned"]
        return final.error, final.cross_entropy, final.flops, trial.number

    return min(finals, key=rank)


def archived(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """What a search delivers: its front and, where error is no objective, the most accurate trial beside it."""
    front = pareto_front(trials, objectives)
    finished = [trial for trial in trials if trial.result is not None]
    best = [most_accurate(finished, objectives)] if finished else []
    return front + [trial for trial in best if trial not in front]
