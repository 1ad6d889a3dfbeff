"""The recommendations at the end of a search: for each share of the budget, the network of the best structure.

The model is fitted to all trials. Its best network at a cost is exact (`trials.strategies.structure`). A network that
no trial has tried is evaluated as one more trial, before it is recommended. If that trial fails, the next best network
at the same cost takes its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sret_nas.arch.cost import cost_of

from ..console import print_line
from ..engines.engine import Engine
from ..engines.messages import TrialResult
from ..engines.retries import AttemptResult, JobQueue
from ..interruption import raise_if_interrupted
from ..report.progress import describe_retry
from ..runs.full_disk import raise_if_nothing_can_be_recorded
from ..runs.objectives import error_of
from ..runs.recommendation import ORIGIN, SHARES, CostName, Recommendation, Recommendations, SizeEffect
from ..runs.trial import Trial
from ..strategies.strategy import Candidate
from ..strategies.structure import MIN_RESULTS, StructureModel
from .session import Run
from .trial_loop import trial_job

MAX_FAILED = len(SHARES)
"""Failed evaluations after which no other network is chosen: then failures have a cause that all networks share."""


def recommend(run: Run, engine: Engine, has_ended: Callable[[Trial], None]) -> None:
    """Chooses what to recommend, unless a choice for as many trials is on record, and evaluates what is new.

    `has_ended` is called with every trial that ends here.
    """
    finished = [trial for trial in run.trials if trial.result is not None and trial.origin != ORIGIN]
    if run.options.best_by == "proxy":
        return
    if len(finished) < MIN_RESULTS:
        print_line(
            run.console, f"Nothing is recommended: {MIN_RESULTS} finished trials are needed, got {len(finished)}"
        )
        return
    known = run.history.recommended
    if known is None or known.num_trials != len(finished):
        known = _recommendations(run, finished)
        run.records.recommended(known)
        run.history.recommended = known
    while _evaluate(run, engine, known, has_ended) and _num_failed(run) <= MAX_FAILED:
        known = _recommendations(run, finished)
        run.records.recommended(known)
        run.history.recommended = known


def _num_failed(run: Run) -> int:
    return sum(trial.failure is not None for trial in run.trials if trial.origin == ORIGIN)


def _recommendations(run: Run, finished: list[Trial]) -> Recommendations:
    """Fits the model and returns its best networks; those that are new become trials, which are not run yet."""
    started = time.monotonic()
    cost, limit = _cost_and_limit(run)
    names = run.domain.chain.cost_names
    errors = [error_of(trial.result, run.options.objectives) for trial in finished if trial.result is not None]
    model = StructureModel(run.domain, [trial.candidate for trial in finished], errors, names.index(cost))
    chosen: dict[tuple[str, str], tuple[float, int, Candidate]] = {}
    for share in SHARES:
        at_most = int(share * limit)
        candidate = model.best_within(at_most, excluded=run.history.failed_keys)
        if candidate is not None:
            chosen.setdefault(candidate.key, (share, at_most, candidate))
    candidates = [candidate for _, _, candidate in chosen.values()]
    if not candidates:
        return Recommendations(num_trials=len(finished), networks=())
    belief = model.belief(candidates)
    numbers = [_number_of(run, candidate) for candidate in candidates]
    networks = tuple(
        Recommendation(
            cost=cost, share=share, limit=at_most, number=number,
            predicted_error=float(mean), deviation=float(deviation),
        )
        for (share, at_most, _), number, mean, deviation in zip(
            chosen.values(), numbers, belief.mean, belief.deviation, strict=True
        )
    )  # fmt: skip
    size = None
    if len(networks) > 1:
        difference, deviation = belief.difference(0, len(networks) - 1)
        size = SizeEffect(difference=difference, deviation=deviation)
    print_line(
        run.console,
        f"Recommending the best structure at {', '.join(network.label for network in networks)} "
        f"(model of {len(finished)} trials, {time.monotonic() - started:.1f} s)",
    )
    # A trial that an exhausted budget left waiting is evaluated here, and then counts as finished.
    trials = [run.history.trials[number] for number in numbers]
    waiting = sum(not trial.has_ended and trial.origin != ORIGIN for trial in trials)
    return Recommendations(num_trials=len(finished) + waiting, networks=networks, size=size)


def _cost_and_limit(run: Run) -> tuple[CostName, int]:
    """Returns the bounded cost, FLOPs first, and its bound; without a bound, FLOPs and those of the largest network."""
    options = run.options
    bounds: list[tuple[CostName, int | None]] = [
        ("flops", options.budget.flops_max),
        ("params", options.budget.params_max),
        ("latency", options.latency_max),
    ]
    for name, bound in bounds:
        if bound is not None:
            return name, bound
    return "flops", max(cost_of(trial.candidate.arch).flops for trial in run.trials)


def _number_of(run: Run, candidate: Candidate) -> int:
    """Returns the number of the candidate's trial, after recording a new one if there is none that finished."""
    for trial in run.trials:
        if trial.candidate.key == candidate.key and trial.failure is None and not trial.is_stopped:
            return trial.number
    number = max(run.history.trials) + 1
    cost = cost_of(candidate.arch)
    latency = run.domain.latency_us(candidate)
    run.records.asked(number, candidate, cost.flops, cost.params, latency, ORIGIN)
    run.history.trials[number] = Trial(number, candidate, ORIGIN)
    return number


def _evaluate(run: Run, engine: Engine, known: Recommendations, has_ended: Callable[[Trial], None]) -> bool:
    """Evaluates the networks that are new. Returns whether any of all of them failed."""
    queue = JobQueue(engine)
    trials = [run.history.trials[network.number] for network in known.networks]
    for trial in trials:
        if not trial.has_ended:
            queue.add(trial.number, trial_job(run, trial, share=1.0), run.trial_time_limit, trial.retried)
    while not queue.is_empty:
        raise_if_interrupted()
        queue.start()
        for end in queue.wait():
            _record(run, end, has_ended)
    return any(trial.failure is not None for trial in trials)


def _record(run: Run, end: AttemptResult, has_ended: Callable[[Trial], None]) -> None:
    raise_if_nothing_can_be_recorded(end.failure)
    trial = run.history.trials[end.job_id]
    if end.failure is not None and end.will_run_again:
        trial.apply(run.records.retried(trial.number, len(trial.retried) + 1, end.failure, end.seconds))
        print_line(run.console, describe_retry(trial))
        return
    result = None if end.result is None else TrialResult.model_validate(end.result)
    trial.apply(run.records.ended(trial.number, result, end.failure, end.seconds))
    if trial.failure is not None:
        print_line(run.console, f"trial {trial.number}, recommended: failed, {trial.failure.message}")
    has_ended(trial)
    run.track(trial)
    run.refresh_report()
