"""What a search learned: effects of choices, how well its model predicts, and how its front grew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sret_nas.arrays import FloatArray
from sret_nas.pareto import hypervolume
from sret_nas.space.choices import StageChoices
from sret_nas.space.search_space import SearchSpace
from sret_nas.surrogate.choice_effects import ChoiceEffect, choice_effects

from ..runs.objective_texts import error_text
from ..runs.objectives import Objective, error_named, error_of
from ..runs.options import SearchOptions
from ..runs.timeline import Timeline
from ..runs.trial import Trial
from ..strategies.sret import SReTDomain
from ..strategies.structure import MIN_RESULTS, StructureModel


@dataclass(frozen=True)
class Insights:
    """What the model of all finished trials says.

    Attributes:
        effects: The effect of every step between choices, in error from 0 to 1.
        numbers: Numbers of the trials, of shape (n,).
        observed: Their errors, of shape (n,).
        left_out: Predictions of them from all other trials, of shape (n,).
        tau: Kendall's tau between the two.
        error: What these errors are called.
    """

    space: SearchSpace
    effects: list[ChoiceEffect]
    numbers: list[int]
    observed: FloatArray
    left_out: FloatArray
    tau: float
    error: str


def insights_of(domain: SReTDomain, trials: Sequence[Trial], objectives: Sequence[Objective]) -> Insights | None:
    """Returns what the model says, or None if too few trials have finished to judge structure.

    The error is the one by which the search compares networks.
    """
    finished = [trial for trial in trials if trial.result is not None]
    if len(finished) < MIN_RESULTS:
        return None
    from scipy.stats import kendalltau  # takes half a second to import

    observed = np.array([error_of(trial.result, objectives) for trial in finished if trial.result is not None])
    candidates = [trial.candidate for trial in finished]
    model = StructureModel(domain, candidates, observed.tolist(), axis=0)
    points = np.array([domain.point(candidate) for candidate in candidates])
    effects = choice_effects(domain.chain, model.surrogate, points, np.random.default_rng(0))
    left_out = model.surrogate.loo_predictions
    tau = float(np.nan_to_num(kendalltau(left_out, observed).statistic))
    numbers = [trial.number for trial in finished]
    return Insights(domain.space, effects, numbers, observed, left_out, tau, error_text(objectives).word)


def label_of(effect: ChoiceEffect, space: SearchSpace) -> str:
    """Returns e.g. `stage 2: recursions 1 to 2`."""
    before, after = (_value(effect, level, space) for level in (effect.before, effect.after))
    if effect.attribute not in StageChoices.model_fields:
        return f"{effect.attribute}: {before} to {after}"
    return f"stage {effect.stage + 1}: {effect.attribute.replace('_', ' ')} {before} to {after}"


def _value(effect: ChoiceEffect, level: int, space: SearchSpace) -> str:
    """Returns a level as it is written in the space."""
    if effect.attribute == "depth schedule":
        return str(space.depth_schedules[level])
    if effect.attribute.startswith("stem "):
        return str(getattr(space.stem, effect.attribute.removeprefix("stem "))[level])
    if effect.attribute in space.listed_variants:
        return str(getattr(space, effect.attribute)[level])
    value = getattr(space.stages[effect.stage], effect.attribute)[level]
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()


HYPERVOLUME = "hypervolume of the front"


def quality_over_trials(
    trials: Sequence[Trial], timeline: Timeline, options: SearchOptions
) -> tuple[str, list[tuple[int, float, float]]]:
    """Returns a quality of the search after each trial, with its name.

    It is the hypervolume of error and log cost, as a share of the box between the best and the worst of all trials; or
    the least error, if the objectives are not error and one cost. The error is the one by which the search compares.
    """
    finished = sorted(
        (trial for trial in trials if trial.result is not None),
        key=lambda trial: (timeline.ended.get(trial.number, math.inf), trial.number),
    )
    seconds = [timeline.ended.get(trial.number, timeline.wall_seconds) for trial in finished]
    errors = [error_of(trial.result, options.objectives) for trial in finished if trial.result is not None]
    costs = [name for name in options.objectives if name in ("flops", "params")]
    if (
        error_named(options.objectives) not in options.objectives
        or len(options.objectives) != 2
        or not costs
        or len(finished) < 2
    ):
        best = np.minimum.accumulate(errors) if errors else np.empty(0)
        return f"least {error_text(options.objectives).title}, %", [
            (count + 1, second, 100 * float(error))
            for count, (second, error) in enumerate(zip(seconds, best, strict=True))
        ]
    logs = [math.log(getattr(trial.result.target, costs[0])) for trial in finished if trial.result is not None]
    points = np.column_stack([errors, logs])
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    reference = np.full(2, 1.0 + 1e-9)
    steps, front = [], np.empty((0, 2))
    for count, (second, point) in enumerate(zip(seconds, scaled, strict=True)):
        if not (front <= point).all(axis=1).any():
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
        steps.append((count + 1, second, hypervolume(front, reference)))
    return HYPERVOLUME, steps
