"""The recommendations at the end of a search: networks of the best structure, at shares of the budget and at a bend.

The model is fitted to all trials. Dynamic programming finds its best network at a cost (`trials.strategies.structure`).
A network that no trial has tried is evaluated as one more trial, before it is recommended. If that trial fails, the
next best network at the same cost takes its place. A result that disappoints changes what the model finds best, so
choosing and evaluating are repeated a few times: trials are few where networks are expensive, and a first choice there
is an extrapolation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from sret_nas.arch.cost import cost_of
from sret_nas.plurals import counted

from ..console import print_line
from ..engines.engine import Engine
from ..engines.results import TrialResult
from ..engines.retries import AttemptResult, JobQueue
from ..interruption import raise_if_interrupted
from ..report.progress import describe_retry
from ..runs.full_disk import raise_if_nothing_can_be_recorded
from ..runs.objectives import error_of
from ..runs.options import SearchOptions
from ..runs.recommendation import (
    ORIGIN,
    SHARES,
    BudgetCost,
    Recommendation,
    Recommendations,
    SizeEffect,
    format_cost,
    max_rounds,
)
from ..runs.trial import Trial
from ..strategies.strategy import Candidate
from ..strategies.structure import MIN_RESULTS, WINDOWS, StructureModel
from .run import Run
from .trial_loop import trial_job

MAX_FAILED = len(SHARES)
"""Failed evaluations after which no other network is chosen: then failures have a cause that all networks share."""

BEND_APART = 1.1
"""Least ratio of the cost at the front's bend to that of every other recommended network, or the other way round."""


def recommend(run: Run, engine: Engine, has_ended: Callable[[Trial], None]) -> None:
    """Chooses what to recommend and evaluates what is new, in rounds, unless that is on record for as many trials.

    `has_ended` is called with every trial that ends here.
    """
    finished = [trial for trial in _finished(run) if trial.origin != ORIGIN]
    if run.options.best_by == "proxy":
        return
    if len(finished) < MIN_RESULTS:
        print_line(
            run.console, f"Nothing is recommended: {MIN_RESULTS} finished trials are needed, got {len(finished)}"
        )
        return
    known = run.history.recommended
    if known is None or _num_expected(run, known) != len(finished):
        nothing = Recommendations(num_trials=len(finished), networks=())
        known = _record_recommendations(run, _choose(run, finished, nothing, round_number=1))
    known = _evaluate_round(run, engine, known, has_ended)
    while not known.is_final:
        known = _evaluate_round(run, engine, _record_recommendations(run, _next_round(run, known)), has_ended)


def _num_expected(run: Run, known: Recommendations) -> int:
    """Returns how many trials have finished if none has since networks were chosen, except those that were awaited."""
    awaited = [run.history.trials[number] for number in known.awaited]
    missing = sum(trial.failure is not None or not trial.has_ended for trial in awaited)
    return known.num_trials - missing


def _evaluate_round(
    run: Run, engine: Engine, known: Recommendations, has_ended: Callable[[Trial], None]
) -> Recommendations:
    """Evaluates what is new, replaces networks whose trials fail, and returns what is recommended then."""
    while _evaluate(run, engine, known, has_ended) and not known.is_final and _num_failed(run) <= MAX_FAILED:
        known = _record_recommendations(run, _choose(run, _finished(run), known, known.round_number))
    return known


def _num_failed(run: Run) -> int:
    return sum(trial.failure is not None for trial in run.trials if trial.origin == ORIGIN)


def _next_round(run: Run, known: Recommendations) -> Recommendations:
    """Returns what the model recommends that knows the results of the round before; final if no more is to be tried."""
    results = _finished(run)
    may_go_on = known.round_number < max_rounds(from_scratch=run.options.no_supernet)
    if may_go_on and _num_failed(run) <= MAX_FAILED:
        chosen = _choose(run, results, known, known.round_number + 1)
        if any(not run.history.trials[network.number].has_ended for network in chosen.networks):
            return chosen
    return _settled(run, known, results)


def _finished(run: Run) -> list[Trial]:
    return [trial for trial in run.trials if trial.result is not None]


def _record_recommendations(run: Run, recommended: Recommendations) -> Recommendations:
    run.records.recommended(recommended)
    run.history.recommended = recommended
    return recommended


def _choose(run: Run, results: list[Trial], before: Recommendations, round_number: int) -> Recommendations:
    """Fits the model and returns its best networks; those that are new become trials, which are not run yet.

    Args:
        before: What was recommended before, of as many trials; an empty one at first.
    """
    started = time.monotonic()
    is_bounded = run.options.upper_bound is not None
    cost, limit = cost_and_limit(run.options, [trial.candidate for trial in run.trials])
    model = _model_of(run, results, cost)
    most = model.most_expensive(limit)
    is_out_of_reach = most is not None and most < WINDOWS[-1] * limit
    if most is not None and is_out_of_reach:
        limit = most
    chosen: dict[tuple[str, str], tuple[int, Candidate]] = {}
    for share in SHARES:
        at_most = int(share * limit)
        candidate = model.best_within(at_most, excluded=run.history.failed_keys)
        if candidate is not None:
            chosen.setdefault(candidate.key, (at_most, candidate))
    bend = model.bend(limit)
    if bend is not None and bend.key not in chosen and bend.key not in run.history.failed_keys:
        bend_cost = int(_cost_of(run, bend, cost))
        if all(max(bend_cost, other) > BEND_APART * min(bend_cost, other) for other, _ in chosen.values()):
            chosen[bend.key] = (bend_cost, bend)
    in_order = sorted(chosen.values(), key=lambda each: -each[0])
    networks, size = _predicted(
        model,
        [
            Recommendation(
                cost=cost, share=at_most / limit, limit=at_most, number=_number_of(run, candidate),
                is_bend=candidate is bend, predicted_error=0.0, deviation=0.0,
            )
            for at_most, candidate in in_order
        ],
        [candidate for _, candidate in in_order],
    )  # fmt: skip
    trials = [run.history.trials[network.number] for network in networks]
    new = [network.label for network, trial in zip(networks, trials, strict=True) if not trial.has_ended]
    took = f"(model of {counted(len(results), 'trial')}, {time.monotonic() - started:.1f} s)"
    if round_number == 1 and networks:
        label = format_cost(cost, limit)
        if not is_bounded:
            print_line(run.console, f"No cost is bounded from above: shares are of the largest trial's {label}")
        elif is_out_of_reach:
            print_line(run.console, f"No network within the budget has more than {label}: shares are of that")
        labels = ", ".join(network.label for network in networks)
        print_line(run.console, f"Recommending the best structure at {labels} {took}")
    elif new:
        print_line(run.console, f"With these results another structure is the best at {', '.join(new)} {took}")
    # A trial that an exhausted budget left waiting is evaluated here, and then counts as finished.
    waiting = tuple(trial.number for trial in trials if not trial.has_ended and trial.origin != ORIGIN)
    return Recommendations(
        num_trials=before.num_trials + len(waiting), round_number=round_number, is_final=False, networks=networks,
        size=size, awaited=before.awaited + waiting,
    )  # fmt: skip


def _settled(run: Run, known: Recommendations, results: list[Trial]) -> Recommendations:
    """Returns, for each share of the budget, the evaluated network of the least posterior mean near that cost.

    The network at the bend stays.
    """
    if not known.networks:
        return known.model_copy(update={"is_final": True})
    cost = known.networks[0].cost
    model = _model_of(run, results, cost)
    means = model.belief([trial.candidate for trial in results]).mean
    costs = [_cost_of(run, trial.candidate, cost) for trial in results]
    settled: dict[int, Recommendation] = {}
    for network in known.networks:
        trial = run.history.trials[network.number]
        low = min(WINDOWS[0] * network.limit, _cost_of(run, trial.candidate, cost))
        inside = [position for position, each in enumerate(costs) if low <= each <= network.limit]
        if inside and not network.is_bend:
            trial = results[min(inside, key=lambda position: (means[position], position))]
        settled.setdefault(trial.number, network.model_copy(update={"number": trial.number}))
    candidates = [run.history.trials[number].candidate for number in settled]
    networks, size = _predicted(model, list(settled.values()), candidates)
    return known.model_copy(update={"is_final": True, "networks": networks, "size": size})


def _predicted(
    model: StructureModel, networks: list[Recommendation], candidates: list[Candidate]
) -> tuple[tuple[Recommendation, ...], SizeEffect | None]:
    """Returns networks with what a model predicts of them, and what it says of size."""
    if not networks:
        return (), None
    belief = model.belief(candidates)
    predicted = tuple(
        network.model_copy(update={"predicted_error": float(np.clip(mean, 0.0, 1.0)), "deviation": float(deviation)})
        for network, mean, deviation in zip(networks, belief.mean, belief.deviation, strict=True)
    )
    shares = [position for position, network in enumerate(networks) if not network.is_bend]
    if len(shares) < 2:
        return predicted, None
    difference, deviation = belief.difference(shares[0], shares[-1])
    return predicted, SizeEffect(difference=difference, deviation=deviation)


def _cost_of(run: Run, candidate: Candidate, cost: BudgetCost) -> float:
    return run.domain.costs(candidate)[run.domain.chain.cost_names.index(cost)]


def _model_of(run: Run, results: list[Trial], cost: BudgetCost) -> StructureModel:
    errors = [error_of(trial.result, run.options.objectives) for trial in results if trial.result is not None]
    axis = run.domain.chain.cost_names.index(cost)
    return StructureModel(run.domain, [trial.candidate for trial in results], errors, axis)


def cost_and_limit(options: SearchOptions, candidates: Sequence[Candidate]) -> tuple[BudgetCost, int]:
    """Returns the bounded cost and its bound; without one, FLOPs and the most that candidates have."""
    return options.upper_bound or ("flops", max(cost_of(candidate.arch).flops for candidate in candidates))


def _number_of(run: Run, candidate: Candidate) -> int:
    """Returns the number of the candidate's trial, after recording a new one if none has finished or still may."""
    for trial in run.trials:
        if trial.key == candidate.key and trial.failure is None and not trial.is_stopped:
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
            queue.add(trial.number, trial_job(run, trial, fraction=1.0), run.trial_time_limit, trial.retried)
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
    reached = trial.num_partial  # a trial that an exhausted budget left waiting at a rung went on from there
    fraction = 1.0 - (run.options.make_rungs().fractions[reached - 1] if reached > 0 else 0.0)
    trial.apply(run.records.ended(trial.number, result, end.failure, end.seconds, fraction))
    run.checkpoint_path(trial).unlink(missing_ok=True)
    if trial.failure is not None:
        print_line(run.console, f"trial {trial.number}, recommended: failed, {trial.failure.message}")
    has_ended(trial)
    run.track(trial)
    run.refresh_report()
