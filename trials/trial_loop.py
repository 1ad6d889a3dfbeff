"""The loop of a search: a strategy asks, an engine runs, the records remember.

The strategy is told results in the order in which it asked, and may run ahead of the oldest untold trial by
`lookahead` trials. So the sequence of candidates depends on the seed and the results alone: not on how many workers
there are, nor on which of them is quicker, nor on whether the search was interrupted. Resuming is replaying: the
strategy is asked again from the beginning, and trials that are on record are not run again.
"""

from __future__ import annotations

import time

from sret_nas.cost import cost_of
from sret_nas.errors import UserError
from trials.attempts import Ended, JobQueue
from trials.engines import Engine
from trials.interruption import raise_if_interrupted
from trials.jobs import TrialJob, TrialResult
from trials.journal import JOURNAL_FILE, OptunaJournal
from trials.objectives import keepers, objective_values
from trials.options import SearchOptions
from trials.records import Trial
from trials.report.console import say
from trials.report.progress import SearchProgress, describe_retry, describe_spending
from trials.run import Run
from trials.spending import Allowance
from trials.storage import raise_if_full, writing
from trials.strategies import Candidate, Strategy


def run_trials(run: Run, strategy: Strategy[Candidate], engine: Engine, journal: OptunaJournal) -> None:
    """Asks, runs and tells until all trials have ended, every candidate has been tried, or no more may be spent."""
    options = run.options
    queue, allowance = JobQueue(engine), run.allowance()
    num_told = num_asked = 0
    is_exhausted = False

    def may_start() -> bool:
        return allowance.allows_another(time.time(), queue.running_seconds)

    num_known = sum(trial.has_ended for trial in run.trials)
    num_trials = max(options.trials, num_known)
    with SearchProgress(run.console, num_trials, num_known, _best_error(run), allowance) as progress:
        while True:
            raise_if_interrupted()
            # One tell, then as many asks as it makes room for: the same interleaving in every run.
            while not (is_exhausted or allowance.spent) and num_asked < _most_asked(options, num_told):
                candidate = strategy.ask()
                if candidate is None:
                    is_exhausted = True
                    break
                trial = _register(run, num_asked, candidate, strategy.origin)
                if not trial.has_ended:
                    queue.add(trial.number, _trial_job(run, trial), run.trial_time_limit, trial.retried)
                num_asked += 1
            if num_told == num_asked:
                break
            if run.history.trials[num_told].has_ended:
                _tell(strategy, run.history.trials[num_told], options)
                num_told += 1
                continue
            queue.start(may_start)
            if queue.is_idle:  # what waits is a resumed search's, with more to spend
                break
            for end in queue.wait():
                _take_in(run, end, journal, progress)
    if allowance.spent is not None:
        say(run.console, f"No further trial starts: {describe_spending(allowance)}. {_how_to_go_on(run, allowance)}")
    elif is_exhausted:
        say(run.console, f"All {num_asked} candidates inside the budget have been tried.")


def _most_asked(options: SearchOptions, num_told: int) -> int:
    return min(options.trials, num_told + options.lookahead)


def _how_to_go_on(run: Run, allowance: Allowance) -> str:
    twice = f"--time-budget {2 * (allowance.time_budget or 0):g}s"
    if allowance.spent == "gpu_hours":
        twice = f"--gpu-hours {2 * (allowance.gpu_hours or 0):g}"
    return f"For twice as much: python cli.py search --resume {run.run_dir} {twice}"


def _register(run: Run, number: int, candidate: Candidate, origin: str) -> Trial:
    """Puts a candidate on record, or finds that it is there already.

    Raises `UserError` if another one is there under its number.
    """
    known = run.history.trials.get(number)
    if known is None:
        cost = cost_of(candidate.arch)
        run.records.asked(number, candidate, cost.flops, cost.params, run.domain.latency_us(candidate), origin)
        known = run.history.trials[number] = Trial(number, candidate, origin)
    elif known.candidate.key != candidate.key:
        raise UserError(
            f"{run.run_dir} cannot be resumed: its trial {number} is {known.candidate.key}, but the strategy now asks "
            f"for {candidate.key}. It was begun with {run.history.header['versions']}; use those, or start anew"
        )
    return known


def _tell(strategy: Strategy[Candidate], trial: Trial, options: SearchOptions) -> None:
    values = None if trial.result is None else objective_values(trial.result, options.objectives)
    strategy.tell(trial.candidate, values)


def _trial_job(run: Run, trial: Trial) -> TrialJob:
    arch, schedule, tuned = trial.candidate.arch, trial.candidate.depth_schedule, run.options.fine_tune_images
    return TrialJob(
        arch=arch,
        depth_schedule=schedule,
        seed=run.options.seed,
        budget=run.options.budget,
        latency_us=run.domain.latency_us(trial.candidate),
        weights_path=str(run.weights_path(trial)) if run.options.from_scratch else None,
        supernet=run.supernet,
        fine_tuning=run.options.fine_tuning(tuned) if tuned > 0 else None,
        score_images=run.options.score_images,
        **run.job_fields,
    )


def _take_in(run: Run, end: Ended, journal: OptunaJournal, progress: SearchProgress) -> None:
    """What the end of an attempt means for the search: it is on disk before anything else happens with it."""
    raise_if_full(end.failure)
    trial = run.history.trials[end.job_id]
    if end.failure is not None and end.will_run_again:
        trial.retried.append(end.failure)
        run.records.retried(trial.number, len(trial.retried), end.failure, end.seconds)
        progress.say(describe_retry(trial))
        return
    _record(run, trial, end)
    with writing(run.run_dir / JOURNAL_FILE):
        journal.add(trial)
    if run.options.from_scratch:
        _forget_beaten_weights(run)
    is_news = run.options.from_scratch or _is_on_front(run, trial)
    progress.trial_ended(trial, _best_error(run), is_news)


def _record(run: Run, trial: Trial, end: Ended) -> None:
    result = None if end.result is None else TrialResult.model_validate(end.result)
    run.records.ended(trial.number, result, end.failure, end.seconds)
    trial.result, trial.failure = result, end.failure


def _best_error(run: Run) -> float | None:
    return min((trial.result.error for trial in run.trials if trial.result is not None), default=None)


def _is_on_front(run: Run, trial: Trial) -> bool:
    return trial.failure is not None or trial in keepers(run.trials, run.options.objectives)


def _forget_beaten_weights(run: Run) -> None:
    """Only the front's weights are needed again; a beaten trial never comes back to the front."""
    kept = {trial.number for trial in keepers(run.trials, run.options.objectives)}
    for trial in run.trials:
        if trial.has_ended and trial.number not in kept:
            run.weights_path(trial).unlink(missing_ok=True)
