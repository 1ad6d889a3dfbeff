"""The objectives that a search minimises, and the Pareto front under them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Literal

import numpy as np

from sret_nas.pareto import non_dominated

from ..engines.results import RetrainResult, TrialResult
from .trial import Trial

Objective = Literal["error", "cross_entropy", "depth_error", "flops", "params", "latency"]
"""Validation error and cross-entropy are the proxy's; FLOPs, parameters and predicted latency are the target's.

`depth_error` is the mean error over all recursion depths at which one file of the proxy's weights can run.
"""

LEARNED: tuple[Objective, ...] = ("error", "cross_entropy", "depth_error")
"""Objectives that only a training tells; the others are known of every network."""


def objective_values(result: TrialResult, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Returns the values of `objectives`, in that order, of a finished trial; latency in microseconds."""
    values = {
        "error": result.error,
        "cross_entropy": result.cross_entropy,
        "depth_error": fmean(result.error_by_depth or [result.error]),
        "flops": float(result.target.flops),
        "params": float(result.target.params),
    }
    if result.target.latency_us is not None:
        values["latency"] = float(result.target.latency_us)
    return tuple(values[objective] for objective in objectives)


def comparable_values(result: TrialResult, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Returns objective values whose differences are comparable: costs on a log scale."""
    values = zip(objectives, objective_values(result, objectives), strict=True)
    return tuple(value if name in LEARNED else math.log(max(value, 1.0)) for name, value in values)


def pareto_front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Returns the non-dominated finished trials, cheapest (FLOPs, then error) first. Equal trials are all kept."""
    finished = [(trial, result) for trial in trials if (result := trial.result) is not None]
    if not finished:
        return []
    points = np.array([objective_values(result, objectives) for _, result in finished])
    front = [trial for (trial, _), keep in zip(finished, non_dominated(points), strict=True) if keep]
    return sorted(front, key=by_cost)


def by_cost(trial: Trial) -> tuple[float, ...]:
    """Returns a sort key of finished trials, cheapest first: FLOPs, then error."""
    result = trial.result
    assert result is not None
    return result.target.flops, result.error, trial.number


def error_named(objectives: Sequence[Objective]) -> Literal["error", "depth_error"]:
    """Returns the error by which a search compares networks: the mean over depths if that is an objective."""
    return "depth_error" if "depth_error" in objectives else "error"


def error_of(result: TrialResult, objectives: Sequence[Objective]) -> float:
    """Returns the error (0 to 1) by which a search compares networks."""
    return objective_values(result, (error_named(objectives),))[0]


def final_error_of(final: RetrainResult, objectives: Sequence[Objective]) -> float:
    """Returns the validation error (0 to 1) of a finalist by which a search compares networks."""
    return _mean_if_compared(final.error, final.error_by_depth, objectives)


def final_test_error_of(final: RetrainResult, objectives: Sequence[Objective]) -> float:
    """Returns the test error (0 to 1) that belongs to `final_error_of`."""
    return _mean_if_compared(final.test_error, final.test_error_by_depth, objectives)


def _mean_if_compared(error: float, by_depth: Sequence[float], objectives: Sequence[Objective]) -> float:
    return fmean((by_depth if error_named(objectives) == "depth_error" else ()) or [error])


def by_accuracy(trial: Trial, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Returns a sort key of finished trials, most accurate first: error, then cross-entropy, then FLOPs."""
    result = trial.result
    assert result is not None
    return error_of(result, objectives), result.cross_entropy, result.target.flops, trial.number


def most_accurate(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Trial:
    """Returns the finished trial of least error (`error_named`); ties go to the least cross-entropy, then FLOPs.

    If that error is an objective it is taken from the front, so no trial of equal error costs less.
    """
    if error_named(objectives) in objectives:
        trials = pareto_front(trials, objectives)
    return min((trial for trial in trials if trial.is_finished), key=lambda trial: by_accuracy(trial, objectives))


def best_of(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Trial:
    """Returns the recommended trial: the best finalist after fine-tuning or, without finalists, the most accurate."""
    finals = [trial for trial in trials if "fine-tuned" in trial.finals]
    if not finals:
        return most_accurate(trials, objectives)

    def rank(trial: Trial) -> tuple[float, ...]:
        final = trial.finals["fine-tuned"]
        return final_error_of(final, objectives), final.cross_entropy, final.flops, trial.number

    return min(finals, key=rank)


def archived(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Returns the trials that a search delivers: its front and, if error is no objective, the most accurate trial."""
    front = pareto_front(trials, objectives)
    finished = [trial for trial in trials if trial.is_finished]
    best = [most_accurate(finished, objectives)] if finished else []
    return front + [trial for trial in best if trial not in front]
