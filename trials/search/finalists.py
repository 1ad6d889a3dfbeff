"""The end of a search with a supernet: which of the networks that it found are worth their weights, and was it luck?

A few networks of the front are trained on from their inherited weights and scored on the whole validation part and,
the only time anything reads it, on the test part. Some of them are trained from scratch as well, each beside a random
network of equal cost: what the search's own are better by is what searching was worth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of

from ..console import print_line
from ..engines.engine import Engine
from ..engines.messages import RetrainJob, RetrainResult
from ..engines.retries import AttemptResult, JobQueue
from ..interruption import raise_if_interrupted
from ..report.finals import describe_final
from ..runs.events import FinalistRole
from ..runs.full_disk import raise_if_nothing_can_be_recorded
from ..runs.objectives import archived
from ..runs.options import FINE_TUNING_SHARE
from ..runs.records import Trial
from .session import Run

Item = TypeVar("Item")

EQUAL_COST = 0.02
"""How far a rival's FLOPs may lie from the finalist's, as a share."""
MAX_DRAWS = 100
"""Draws after which a finalist counts as the only network of its cost."""


@dataclass(frozen=True)
class _Task:
    trial: Trial
    role: FinalistRole
    arch: ArchConfig


def train_finalists(run: Run, engine: Engine) -> None:
    """Runs what is not on record yet; a network that fails is named, and left out of the comparison."""
    tasks = [task for task in _tasks(run) if task.role not in task.trial.finals]
    if tasks:
        print_line(run.console, f"Finals: training {len(tasks)} networks, to score them on the test part")
    queue = JobQueue(engine)
    for number, task in enumerate(tasks):
        queue.add(number, _job(run, task), run.final_time_limit)
    while not queue.is_empty:
        raise_if_interrupted()
        queue.start()
        for end in queue.wait():
            _record(run, tasks[end.job_id], end)


def finalists(run: Run) -> list[Trial]:
    """Up to as many networks of the front as were asked for, evenly from its most expensive to its cheapest."""
    most_expensive_first = archived(run.trials, run.options.objectives)[::-1]
    return _evenly(most_expensive_first, run.options.finalists)


def _evenly(items: list[Item], number: int) -> list[Item]:
    """As many as asked for, or all if they are fewer: the first, and others evenly among the rest."""
    number = min(number, len(items))
    return [items[at * len(items) // number] for at in range(number)]


def rival_of(run: Run, trial: Trial) -> ArchConfig | None:
    """A network drawn uniformly from those inside the budget that cost what a finalist does; None if there is none."""
    flops, budget = cost_of(trial.candidate.arch).flops, run.options.budget
    low, high = round((1 - EQUAL_COST) * flops), round((1 + EQUAL_COST) * flops)
    window = replace(budget, flops_min=max(budget.flops_min or 0, low), flops_max=min(budget.flops_max or high, high))
    domain, rng = run.domain.within(window), np.random.default_rng([run.options.seed, trial.number])
    drawn = (domain.draw(rng).arch for _ in range(MAX_DRAWS))
    return next((arch for arch in drawn if arch.arch_id != trial.candidate.arch.arch_id), None)


def _tasks(run: Run) -> list[_Task]:
    chosen = finalists(run)
    tasks = [_Task(trial, "fine-tuned", trial.candidate.arch) for trial in chosen]
    if run.options.rivals == 0:
        return tasks
    pairs = [(trial, rival) for trial in chosen if (rival := rival_of(run, trial)) is not None]
    for trial, rival in _evenly(pairs, run.options.rivals):
        tasks += [_Task(trial, "from scratch", trial.candidate.arch), _Task(trial, "rival", rival)]
    return tasks


def _job(run: Run, task: _Task) -> RetrainJob:
    options, full = run.options, run.proxy.training
    is_inherited = task.role == "fine-tuned"
    return RetrainJob(
        arch=task.arch,
        training=options.fine_tuning(round(FINE_TUNING_SHARE * full.images)) if is_inherited else full,
        seed=options.seed,
        supernet=run.supernet if is_inherited else None,
        weights_path=str(run.weights_path(task.trial)) if is_inherited else None,
        **dict(run.job_context),
    )


def _record(run: Run, task: _Task, end: AttemptResult) -> None:
    raise_if_nothing_can_be_recorded(end.failure)
    if end.failure is not None:
        again = "; once more" if end.will_run_again else ""
        print_line(run.console, f"trial {task.trial.number}, {task.role}: failed, {end.failure.message}{again}")
        return
    result = RetrainResult.model_validate(end.result)
    run.records.final(task.trial.number, task.role, result)
    task.trial.finals[task.role] = result
    print_line(run.console, describe_final(task.trial.number, task.role, result))
