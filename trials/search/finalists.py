"""The end of a search with a supernet: fine-tunes the finalists, tests them, and compares them with random networks.

A few networks of the front are fine-tuned from their inherited weights, then scored on the whole validation part and on
the test part, which nothing else reads. Some of them are also trained from scratch, each next to its control: a random
network of equal FLOPs. The difference between the two shows what searching was worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.errors import BudgetError
from sret_nas.plurals import counted

from ..console import print_line
from ..engines.engine import Engine
from ..engines.jobs import RetrainJob
from ..engines.results import RetrainResult
from ..engines.retries import AttemptResult, JobQueue
from ..interruption import raise_if_interrupted
from ..report.finals import describe_final
from ..runs.events import FinalistRole
from ..runs.full_disk import raise_if_nothing_can_be_recorded
from ..runs.objectives import archived
from ..runs.options import FINE_TUNING_SHARE
from ..runs.trial import Trial
from .run import Run

Item = TypeVar("Item")

EQUAL_COST = 0.02
"""Maximum relative difference between the FLOPs of a control and its finalist."""
MAX_DRAWS = 100
"""Draws after which a finalist counts as the only network of its cost."""


@dataclass(frozen=True)
class _Retraining:
    """A network to train at the end: a finalist or its control."""

    trial: Trial
    role: FinalistRole
    arch: ArchConfig


def train_finalists(run: Run, engine: Engine) -> None:
    """Trains and tests the finalists and controls that have no result yet.

    A network that fails is reported and left out of the comparison.
    """
    chosen = _retrainings(run)
    retrainings = [each for each in chosen if each.role not in each.trial.finals]
    if retrainings:
        print_line(run.console, f"Finals: training {counted(len(retrainings), 'network')}, to score on the test part")
        for line in _left_alone(chosen, run.options.controls):
            print_line(run.console, line)
    queue = JobQueue(engine)
    for job_id, retraining in enumerate(retrainings):
        queue.add(job_id, _job(run, retraining), run.final_time_limit)
    while not queue.is_empty:
        raise_if_interrupted()
        queue.start()
        for end in queue.wait():
            _record(run, retrainings[end.job_id], end)


def finalists(run: Run) -> list[Trial]:
    """Returns the finalists: what is recommended, most expensive first, then evenly spaced networks of the front.

    Of what is recommended, the networks at both ends of the budget come first, and the one at the front's bend last.

    There are `--finalists` of them, or fewer if there are no more networks.
    """
    recommended, bends = recommended_trials(run), _bends(run)
    chosen = with_both_ends([trial for trial in recommended if trial not in bends], run.options.finalists)
    chosen += bends[: run.options.finalists - len(chosen)]
    most_expensive_first = archived(run.trials, run.options.objectives)[::-1]
    others = [trial for trial in most_expensive_first if trial not in recommended]
    return chosen + _evenly(others, run.options.finalists - len(chosen))


def recommended_trials(run: Run) -> list[Trial]:
    """Returns the evaluated trials of the recommended networks, the most expensive first."""
    known = run.history.recommended
    networks = () if known is None else known.networks
    trials = [run.history.trials[network.number] for network in networks]
    return [trial for trial in trials if trial.result is not None]


def _evenly(items: list[Item], count: int) -> list[Item]:
    """Returns `count` evenly spaced items, the first included, or all if there are fewer."""
    count = min(count, len(items))
    return [items[position * len(items) // count] for position in range(count)]


def _bends(run: Run) -> list[Trial]:
    known = run.history.recommended
    numbers = set() if known is None else {network.number for network in known.networks if network.is_bend}
    return [trial for trial in recommended_trials(run) if trial.number in numbers]


def with_both_ends(items: Sequence[Item], count: int) -> list[Item]:
    """Returns `count` evenly spaced items, the first and, of two or more, the last included; all if there are fewer."""
    count = min(count, len(items))
    return (
        list(items[:count]) if count < 2 else [items[round(k * (len(items) - 1) / (count - 1))] for k in range(count)]
    )


def control_of(run: Run, trial: Trial) -> ArchConfig | None:
    """Returns a finalist's control, drawn uniformly from the networks of equal FLOPs inside the budget.

    Returns None if no other network was drawn in `MAX_DRAWS`, or if the finalist is about the only one: with a bound on
    latency, a set whose networks are hardly ever drawn counts as empty.
    """
    flops, budget = cost_of(trial.arch).flops, run.options.budget
    low, high = round((1 - EQUAL_COST) * flops), round((1 + EQUAL_COST) * flops)
    window = replace(budget, flops_min=max(budget.flops_min or 0, low), flops_max=min(budget.flops_max or high, high))
    rng = np.random.default_rng([run.options.seed, trial.number])
    try:
        domain = run.domain.within(window)
        drawn = (domain.draw(rng).arch for _ in range(MAX_DRAWS))
        return next((arch for arch in drawn if arch.arch_id != trial.arch_id), None)
    except BudgetError:
        return None


def _retrainings(run: Run) -> list[_Retraining]:
    chosen = finalists(run)
    retrainings = [_Retraining(trial, "fine-tuned", trial.arch) for trial in chosen]
    if run.options.controls == 0:
        return retrainings
    pairs = [(trial, control) for trial in chosen if (control := control_of(run, trial)) is not None]
    for trial, control in _evenly(pairs, run.options.controls):
        retrainings.append(_Retraining(trial, "from scratch", trial.arch))
        retrainings.append(_Retraining(trial, "control", control))
    return retrainings


def _left_alone(retrainings: Sequence[_Retraining], controls: int) -> list[str]:
    """Returns a line for each finalist without a control, if there are fewer controls than were asked for."""
    paired = {each.trial.number for each in retrainings if each.role == "control"}
    chosen = [each.trial for each in retrainings if each.role == "fine-tuned"]
    if len(paired) >= min(controls, len(chosen)):
        return []
    return [
        f"No control for trial {trial.number}: no other network within {100 * EQUAL_COST:g} % of its FLOPs"
        for trial in chosen
        if trial.number not in paired
    ]


def _job(run: Run, retraining: _Retraining) -> RetrainJob:
    options, images = run.options, run.proxy.training.images
    is_inherited = retraining.role == "fine-tuned"
    return RetrainJob(
        arch=retraining.arch,
        training=(
            options.fine_tuning(round(FINE_TUNING_SHARE * images)) if is_inherited else options.control_training(images)
        ),
        depth_schedule="joint" if options.scores_depths else "full",
        seed=options.seed,
        supernet=run.supernet,
        is_from_scratch=not is_inherited,
        weights_path=str(run.weights_path(retraining.trial)) if is_inherited else None,
        **dict(run.job_context),
    )


def _record(run: Run, retraining: _Retraining, end: AttemptResult) -> None:
    raise_if_nothing_can_be_recorded(end.failure)
    if end.failure is not None:
        again = "; once more" if end.will_run_again else ""
        number, role = retraining.trial.number, retraining.role
        print_line(run.console, f"trial {number}, {role}: failed, {end.failure.message}{again}")
        return
    result = RetrainResult.model_validate(end.result)
    run.records.final(retraining.trial.number, retraining.role, result)
    retraining.trial.finals[retraining.role] = result
    print_line(run.console, describe_final(retraining.trial.number, retraining.role, result))
    run.refresh_report()
