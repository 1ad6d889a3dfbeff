"""The loop of a search: a strategy proposes trials, an engine runs them, and the records keep the results.

The strategy is told results in a deterministic order (`trials.search.completion_order`; without early stopping, the
order in which it was asked), with up to `lookahead` trials in flight. So the sequence of candidates depends only on the
seed and the results, not on the number or speed of workers, nor on interruptions. A search is resumed by replay: the
strategy is asked again from the beginning, and recorded trials are not run again.

With early stopping, a trial is one job per rung that it reaches (`trials.strategies.early_stopping`). Whether it is
promoted is decided in that same order. A promoted trial continues before a new trial starts.
"""

from __future__ import annotations

from sret_nas.arch.cost import cost_of
from sret_nas.errors import UserError

from ..console import print_line
from ..engines.engine import Engine
from ..engines.jobs import InheritedTrialJob, PartialScore, ScratchTrialJob, TrialJob
from ..engines.results import TrialResult
from ..engines.retries import AttemptResult, JobQueue
from ..interruption import raise_if_interrupted
from ..program_name import resume_command
from ..report.progress import SearchProgress, describe_retry, describe_usage
from ..runs.compute_budget import ComputeBudget
from ..runs.full_disk import raise_if_nothing_can_be_recorded, writing
from ..runs.objectives import comparable_values, objective_values
from ..runs.optuna_journal import JOURNAL_FILE, OptunaJournal
from ..runs.pareto_archive import ParetoArchive
from ..runs.recommendation import ORIGIN
from ..runs.trial import Trial
from ..strategies.strategy import Candidate, Strategy
from .completion_order import CompletionOrder
from .enqueue import enqueued_candidates
from .run import Run


def run_trials(run: Run, strategy: Strategy[Candidate], engine: Engine, journal: OptunaJournal) -> None:
    """Runs the search until all trials have ended, every candidate has been tried, or the budget is exhausted."""
    loop = _TrialLoop(run, strategy, engine, journal)
    num_known = run.history.num_ended
    num_trials = max(run.options.trials, num_known)
    with SearchProgress(
        run.console, num_trials, num_known, loop.front.best_error, loop.compute_budget, run.options.objectives
    ) as progress:
        loop.run(progress)
    loop.tell_why_it_ended()


class _TrialLoop:
    """The state of the loop: trials asked, running, and told to the strategy."""

    def __init__(self, run: Run, strategy: Strategy[Candidate], engine: Engine, journal: OptunaJournal) -> None:
        self._run, self._strategy, self._journal = run, strategy, journal
        self._queue, self._order, self._rungs = JobQueue(engine), CompletionOrder(), run.options.make_rungs()
        self.compute_budget = run.compute_budget()
        self.front = restored_front(run)
        self._enqueued = enqueued_candidates(run.domain, run.options)
        self._num_known = run.history.num_ended
        self._num_replayed = 0
        self._num_asked = self._num_excluded = 0
        self._is_exhausted = False
        self._rung: dict[int, int] = {}
        """The next rung of each trial that was asked and not yet told, by number."""

    def run(self, progress: SearchProgress) -> None:
        """Runs until all trials have ended or the budget is exhausted."""
        while True:
            raise_if_interrupted()
            # Ask as much as there is room for after every consumed result: the same interleaving in every run.
            self._ask_ahead()
            if len(self._order) == 0:
                return
            if self._has_come(self._order.peek()):
                self._take_in_next(progress)
                if self._num_replayed < self._num_known:
                    self._num_replayed += 1
                    progress.replayed(self._num_replayed, self._num_known)
                continue
            self._queue.start(self._may_start)
            if self._queue.is_idle:  # the budget is exhausted: waiting jobs are left to a resumed search
                return
            for end in self._queue.wait():
                self._record(end, progress)

    def _may_start(self, fraction: float) -> bool:
        return self.compute_budget.has_room_for(self.compute_budget.clock(), self._queue.running, fraction)

    def _ask_ahead(self) -> None:
        options = self._run.options
        while len(self._order) < options.lookahead and self._num_asked - self._num_excluded < options.trials:
            if self._is_exhausted or self.compute_budget.exhausted_by is not None:
                return
            known = self._run.history.trials.get(self._num_asked)
            if known is not None and known.origin == ORIGIN:  # an earlier session's, which the strategy did not propose
                self._strategy.exclude(known.candidate)
                self._num_asked += 1
                self._num_excluded += 1
                continue
            position = self._num_asked - self._num_excluded
            if position < len(self._enqueued):
                candidate, origin = self._enqueued[position], "enqueued"
                self._strategy.adopt(candidate)
            else:
                proposed = self._strategy.ask()
                if proposed is None:
                    self._is_exhausted = True
                    return
                candidate, origin = proposed, self._strategy.origin
            trial = _register(self._run, self._num_asked, candidate, origin)
            self._num_asked += 1
            self._begin(trial, rung=0)

    def _begin(self, trial: Trial, rung: int) -> None:
        """Queues the job that brings a trial to a rung, unless its result there is recorded."""
        fraction = self._rungs.increment(rung)
        self._rung[trial.number] = rung
        self._order.push(trial.number, fraction)
        if not self._has_come(trial.number):
            job = trial_job(self._run, trial, self._rungs.fractions[rung])
            self._queue.add(trial.number, job, self._run.trial_time_limit, trial.retried, fraction)

    def _has_come(self, number: int) -> bool:
        """Returns whether the outcome of a trial at its next rung is recorded."""
        trial = self._run.history.trials[number]
        return trial.num_partial > self._rung[number] or trial.is_finished or trial.failure is not None

    def _take_in_next(self, progress: SearchProgress) -> None:
        """Consumes the next result: tells the strategy, and promotes or stops a trial that is at a rung."""
        trial, objectives = self._run.history.trials[self._order.pop()], self._run.options.objectives
        rung = self._rung.pop(trial.number)
        if rung == trial.num_partial:
            final = trial.result
            values = None if final is None else objective_values(final, objectives)
            self._strategy.tell(trial.candidate, values)
            return
        result = trial.partial[rung]
        self._strategy.tell_partial(trial.candidate, rung, objective_values(result, objectives))
        if self._rungs.promote(rung, comparable_values(result, objectives)):
            self._begin(trial, rung + 1)
            return
        if not trial.has_ended:
            self._stop(trial, progress)
        final = trial.result  # an earlier session may have recommended it, and so have run it to its end
        self._strategy.tell(trial.candidate, None if final is None else objective_values(final, objectives))

    def _stop(self, trial: Trial, progress: SearchProgress) -> None:
        trial.apply(self._run.records.stopped(trial.number))
        self._has_ended(trial, progress)

    def _record(self, end: AttemptResult, progress: SearchProgress) -> None:
        """Records the end of an attempt, on disk before anything depends on it."""
        raise_if_nothing_can_be_recorded(end.failure)
        run, trial = self._run, self._run.history.trials[end.job_id]
        if end.failure is not None and end.will_run_again:
            trial.apply(run.records.retried(trial.number, len(trial.retried) + 1, end.failure, end.seconds))
            progress.say(describe_retry(trial))
            return
        rung = self._rung[trial.number]
        fraction = self._rungs.increment(rung)
        result = None if end.result is None else TrialResult.model_validate(end.result)
        if result is not None and rung < self._rungs.last:
            trial.apply(run.records.rung(trial.number, result, end.seconds, fraction))
            return
        trial.apply(run.records.ended(trial.number, result, end.failure, end.seconds, fraction))
        self._has_ended(trial, progress)

    def _has_ended(self, trial: Trial, progress: SearchProgress) -> None:
        run = self._run
        _add(trial, self.front, run)
        with writing(run.run_dir / JOURNAL_FILE):
            self._journal.add(trial)
        run.track(trial)
        run.checkpoint_path(trial).unlink(missing_ok=True)
        is_news = run.options.no_supernet or trial.failure is not None or trial.number in self.front
        progress.trial_ended(trial, self.front.best_error, is_news)
        run.refresh_report()

    def tell_why_it_ended(self) -> None:
        run, compute_budget = self._run, self.compute_budget
        if compute_budget.exhausted_by is not None:
            print_line(
                run.console,
                f"No further trial starts: {describe_usage(compute_budget)}. {_how_to_go_on(compute_budget, run)}",
            )
        elif self._is_exhausted:
            print_line(run.console, f"Every candidate inside the budget has been tried ({self._num_asked:,} in all).")


def restored_front(run: Run) -> ParetoArchive:
    """Returns the front of the trials that have ended, and deletes weights of the others, which a kill may leave."""
    front = ParetoArchive(run.options.objectives)
    for trial in run.trials:
        if trial.has_ended:
            _add(trial, front, run)
    return front


def _add(trial: Trial, front: ParetoArchive, run: Run) -> None:
    """Adds a trial to a front, and deletes weights that left it; a dominated trial never returns to it.

    Weights of what was recommended stay, whatever dominates it: they were tested, and files name them.
    """
    known = run.history.recommended
    recommended = set() if known is None else {network.number for network in known.networks}
    for dominated in front.add(trial):
        if run.options.no_supernet and dominated.origin != ORIGIN and dominated.number not in recommended:
            run.weights_path(dominated).unlink(missing_ok=True)


def _how_to_go_on(compute_budget: ComputeBudget, run: Run) -> str:
    twice = f"--time-budget {round(2 * (compute_budget.time_budget or 0))}s"
    if compute_budget.exhausted_by == "gpu_hours":
        twice = f"--gpu-hours {2 * (compute_budget.gpu_hours or 0):g}"
    return f"For twice as much: {resume_command('search', run.run_dir, twice)}"


def _register(run: Run, number: int, candidate: Candidate, origin: str) -> Trial:
    """Returns the trial of a candidate, after recording it unless it is on record.

    Raises `UserError` if the record of that number is of another candidate.
    """
    known = run.history.trials.get(number)
    if known is None:
        cost = cost_of(candidate.arch)
        run.records.asked(number, candidate, cost.flops, cost.params, run.domain.latency_us(candidate), origin)
        known = run.history.trials[number] = Trial(number, candidate, origin)
    elif known.key != candidate.key:
        raise UserError(
            f"{run.run_dir} cannot be resumed: its trial {number} is {known.key}, but the strategy now asks "
            f"for {candidate.key}. It was begun with {run.history.header['versions']}; use those, or start anew"
        )
    return known


def trial_job(run: Run, trial: Trial, fraction: float) -> TrialJob:
    """Returns the job that brings a trial from its last rung to `fraction` of its length."""
    options, before = run.options, trial.partial[-1] if trial.num_partial else None
    candidate = trial.candidate
    shared = {
        **dict(run.job_context),
        "arch": candidate.arch,
        "depth_schedule": candidate.depth_schedule,
        "seed": options.seed,
        "budget": options.budget,
        "latency_us": run.domain.latency_us(candidate),
        "fraction": fraction,
        "scores_depths": options.scores_depths,
    }
    if options.no_supernet:
        checkpoint = str(run.checkpoint_path(trial))
        return ScratchTrialJob(
            **shared,
            weights_path=str(run.weights_path(trial)) if fraction == 1 else None,
            checkpoint_from=None if before is None else checkpoint,
            checkpoint_to=checkpoint if fraction < 1 else None,
        )
    known, tuned = None, options.fine_tune_images
    if before is not None:
        known = PartialScore(
            images=before.val_images, error=before.error, cross_entropy=before.cross_entropy,
            error_by_depth=tuple(before.error_by_depth) if options.scores_depths else (),
        )  # fmt: skip
    assert run.supernet is not None  # it is provided before the first trial
    return InheritedTrialJob(
        **shared,
        supernet=run.supernet,
        val_images_per_trial=options.val_images_per_trial,
        known=known,
        fine_tuning=options.fine_tuning(tuned) if tuned > 0 else None,
    )
