"""The loop of a search: a strategy asks, an engine runs, the records remember.

The strategy is told results in an order that is fixed beforehand (`trials.search.completion_order`; without early
stopping that in which it asked), and `lookahead` trials may be on their way at once. So the sequence of candidates
depends on the seed and the results alone: not on how many workers there are, nor on which of them is quicker, nor on
whether the search was interrupted. Resuming is replaying: the strategy is asked again from the beginning, and what is
on record is not run again.

With early stopping a trial is a job for every rung that it comes to (`trials.strategies.early_stopping`). Whether it
goes on is decided in its turn in that order, from those before it; what goes on does so before a new trial begins.
"""

from __future__ import annotations

import time

from sret_nas.arch.cost import cost_of
from sret_nas.errors import UserError

from ..console import print_line
from ..engines.engine import Engine
from ..engines.messages import InheritedTrialJob, PartialScore, ScratchTrialJob, TrialJob, TrialResult
from ..engines.retries import AttemptResult, JobQueue
from ..interruption import raise_if_interrupted
from ..program_name import resume_command
from ..report.progress import SearchProgress, describe_retry, describe_spending
from ..runs.compute_budget import ComputeBudget
from ..runs.full_disk import raise_if_nothing_can_be_recorded, writing
from ..runs.objectives import comparable_values, objective_values
from ..runs.optuna_journal import JOURNAL_FILE, OptunaJournal
from ..runs.pareto_archive import ParetoArchive
from ..runs.records import Trial
from ..strategies.strategy import Candidate, Strategy
from .completion_order import CompletionOrder
from .session import Run


def run_trials(run: Run, strategy: Strategy[Candidate], engine: Engine, journal: OptunaJournal) -> None:
    """Asks, runs and tells until all trials have ended, every candidate has been tried, or no more may be spent."""
    loop = _TrialLoop(run, strategy, engine, journal)
    num_known = sum(trial.has_ended for trial in run.trials)
    num_trials = max(run.options.trials, num_known)
    with SearchProgress(run.console, num_trials, num_known, loop.front.best_error, loop.allowance) as progress:
        loop.run(progress)
    loop.tell_why_it_ended()


class _TrialLoop:
    """What is asked, what runs, and what has been told."""

    def __init__(self, run: Run, strategy: Strategy[Candidate], engine: Engine, journal: OptunaJournal) -> None:
        self._run, self._strategy, self._journal = run, strategy, journal
        self._queue, self._order, self._rungs = JobQueue(engine), CompletionOrder(), run.options.make_rungs()
        self.allowance = run.allowance()
        self.front = front_of(run)
        self._num_known = sum(trial.has_ended for trial in run.trials)
        self._num_replayed = 0
        self._num_asked = 0
        self._is_exhausted = False
        self._rung: dict[int, int] = {}
        """Of the trials that were asked and not yet told, the rung that they are on their way to."""

    def run(self, progress: SearchProgress) -> None:
        """To the end of all trials, or until no more may be spent."""
        while True:
            raise_if_interrupted()
            # One end taken in, then as many asks as it makes room for: the same interleaving in every run.
            self._ask_ahead()
            if len(self._order) == 0:
                return
            if self._has_come(self._order.next):
                self._take_in_next(progress)
                if self._num_replayed < self._num_known:
                    self._num_replayed += 1
                    progress.replayed(self._num_replayed, self._num_known)
                continue
            self._queue.start(self._may_start)
            if self._queue.is_idle:  # what waits is a resumed search's, with more to spend
                return
            for end in self._queue.wait():
                self._record(end, progress)

    def _may_start(self, part: float) -> bool:
        return self.allowance.has_room_for(time.time(), self._queue.running, part)

    def _ask_ahead(self) -> None:
        options = self._run.options
        while len(self._order) < options.lookahead and self._num_asked < options.trials:
            if self._is_exhausted or self.allowance.spent is not None:
                return
            candidate = self._strategy.ask()
            if candidate is None:
                self._is_exhausted = True
                return
            trial = _register(self._run, self._num_asked, candidate, self._strategy.origin)
            self._num_asked += 1
            self._begin(trial, rung=0)

    def _begin(self, trial: Trial, rung: int) -> None:
        """Sends a trial on its way to a rung, unless it is on record that it has been there."""
        part = self._rungs.increment(rung)
        self._rung[trial.number] = rung
        self._order.begin(trial.number, part)
        if not self._has_come(trial.number):
            job = _trial_job(self._run, trial, self._rungs.fractions[rung])
            self._queue.add(trial.number, job, self._run.trial_time_limit, trial.retried, part)

    def _has_come(self, number: int) -> bool:
        """Whether it is known what became of a trial on its way to its next rung."""
        trial = self._run.history.trials[number]
        return len(trial.partial) > self._rung[number] or trial.result is not None or trial.failure is not None

    def _take_in_next(self, progress: SearchProgress) -> None:
        """Tells the strategy of the next end that is due, and sends the trial on if it has earned it."""
        trial, objectives = self._run.history.trials[self._order.next], self._run.options.objectives
        self._order.take()
        rung = self._rung.pop(trial.number)
        if rung == len(trial.partial):
            values = None if trial.result is None else objective_values(trial.result, objectives)
            self._strategy.tell(trial.candidate, values)
            return
        found = trial.partial[rung]
        self._strategy.tell_partial(trial.candidate, rung, objective_values(found, objectives))
        if self._rungs.promote(rung, comparable_values(found, objectives)):
            self._begin(trial, rung + 1)
            return
        if not trial.is_stopped:
            self._stop(trial, progress)
        self._strategy.tell(trial.candidate, None)

    def _stop(self, trial: Trial, progress: SearchProgress) -> None:
        self._run.records.stopped(trial.number)
        trial.is_stopped = True
        self._has_ended(trial, progress)

    def _record(self, end: AttemptResult, progress: SearchProgress) -> None:
        """What the end of an attempt means for the search: it is on disk before anything else happens with it."""
        raise_if_nothing_can_be_recorded(end.failure)
        run, trial = self._run, self._run.history.trials[end.job_id]
        if end.failure is not None and end.will_run_again:
            trial.retried.append(end.failure)
            run.records.retried(trial.number, len(trial.retried), end.failure, end.seconds)
            progress.say(describe_retry(trial))
            return
        rung = self._rung[trial.number]
        part = self._rungs.increment(rung)
        result = None if end.result is None else TrialResult.model_validate(end.result)
        if result is not None and rung < self._rungs.last:
            run.records.rung(trial.number, result, end.seconds, part)
            trial.partial.append(result)
            return
        run.records.ended(trial.number, result, end.failure, end.seconds, part)
        trial.result, trial.failure = result, end.failure
        self._has_ended(trial, progress)

    def _has_ended(self, trial: Trial, progress: SearchProgress) -> None:
        run = self._run
        self._keep_if_best(trial)
        with writing(run.run_dir / JOURNAL_FILE):
            self._journal.add(trial)
        run.checkpoint_path(trial).unlink(missing_ok=True)
        is_news = run.options.from_scratch or trial.failure is not None or trial.number in self.front
        progress.trial_ended(trial, self.front.best_error, is_news)

    def _keep_if_best(self, trial: Trial) -> None:
        """Only the front's weights are needed again; a beaten trial never comes back to the front."""
        _add(trial, self.front, self._run)

    def tell_why_it_ended(self) -> None:
        run, allowance = self._run, self.allowance
        if allowance.spent is not None:
            print_line(
                run.console, f"No further trial starts: {describe_spending(allowance)}. {_how_to_go_on(allowance, run)}"
            )
        elif self._is_exhausted:
            print_line(run.console, f"All {self._num_asked} candidates inside the budget have been tried.")


def front_of(run: Run) -> ParetoArchive:
    """Returns the front of the trials that have ended, and removes weights of the others that a kill left."""
    front = ParetoArchive(run.options.objectives)
    for trial in run.trials:
        if trial.has_ended:
            _add(trial, front, run)
    return front


def _add(trial: Trial, front: ParetoArchive, run: Run) -> None:
    for dominated in front.add(trial):
        if run.options.from_scratch:
            run.weights_path(dominated).unlink(missing_ok=True)


def _how_to_go_on(allowance: ComputeBudget, run: Run) -> str:
    twice = f"--time-budget {2 * (allowance.time_budget or 0):g}s"
    if allowance.spent == "gpu_hours":
        twice = f"--gpu-hours {2 * (allowance.gpu_hours or 0):g}"
    return f"For twice as much: {resume_command('search', run.run_dir, twice)}"


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


def _trial_job(run: Run, trial: Trial, share: float) -> TrialJob:
    """Returns the job that brings a trial to a share of its length, from where it was left off."""
    options, before = run.options, trial.partial[-1] if trial.partial else None
    shared = {
        **dict(run.job_context),
        "arch": trial.candidate.arch,
        "depth_schedule": trial.candidate.depth_schedule,
        "seed": options.seed,
        "budget": options.budget,
        "latency_us": run.domain.latency_us(trial.candidate),
        "share": share,
    }
    if options.from_scratch:
        checkpoint = str(run.checkpoint_path(trial))
        return ScratchTrialJob(
            **shared,
            weights_path=str(run.weights_path(trial)) if share == 1 else None,
            checkpoint_from=None if before is None else checkpoint,
            checkpoint_to=checkpoint if share < 1 else None,
        )
    known, tuned = None, options.fine_tune_images
    if before is not None:
        known = PartialScore(images=before.val_images, error=before.error, cross_entropy=before.cross_entropy)
    assert run.supernet is not None  # it is provided before the first trial
    return InheritedTrialJob(
        **shared,
        supernet=run.supernet,
        score_images=options.score_images,
        known=known,
        fine_tuning=options.fine_tuning(tuned) if tuned > 0 else None,
    )
