"""The loop of a search: a strategy asks, an engine runs, the records remember.

The strategy is told results in the order in which it asked, and may run ahead of the oldest untold trial by
`lookahead` trials. So the sequence of candidates depends on the seed and the results alone: not on how many workers
there are, nor on which of them is quicker, nor on whether the search was interrupted. Resuming is replaying: the
strategy is asked again from the beginning, and trials that are on record are not run again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sret_nas.cost import cost_of
from sret_nas.errors import UserError
from sret_nas.space import SearchSpace
from trials.engines import Engine, Outcome
from trials.interruption import raise_if_interrupted
from trials.jobs import FinalTestJob, FinalTestResult, SupernetSource, TrialJob, TrialResult
from trials.journal import OptunaJournal
from trials.latency import LatencyTimer, measured_latencies
from trials.objectives import keepers, objective_values
from trials.options import SearchOptions
from trials.recipe import ProxyConfig
from trials.records import History, Records, Trial
from trials.report.console import say
from trials.report.progress import SearchProgress
from trials.strategies import Candidate, Strategy
from trials.strategies.sret import SReTDomain


@dataclass
class Run:
    """Everything a running search needs; its history grows with every candidate asked for."""

    run_dir: Path
    options: SearchOptions
    domain: SReTDomain
    data_dir: Path
    proxy: ProxyConfig
    records: Records
    history: History
    console: Console

    @property
    def space(self) -> SearchSpace:
        return self.domain.space

    @property
    def trials(self) -> list[Trial]:
        return [self.history.trials[number] for number in sorted(self.history.trials)]

    @property
    def job_fields(self) -> dict[str, Any]:
        return job_fields(self.options, self.proxy, self.data_dir, self.history.header["data"]["digest"])

    @property
    def supernet(self) -> SupernetSource | None:
        """The supernet that trials inherit from; one that the search trained lies in its run directory."""
        known = self.history.supernet
        return None if known is None else known.model_copy(update={"path": str(self.run_dir / known.path)})

    def weights_path(self, trial: Trial) -> Path:
        return self.run_dir / "weights" / f"trial-{trial.number:04d}.safetensors"


def job_fields(options: SearchOptions, proxy: ProxyConfig, data_dir: Path, data_digest: str) -> dict[str, Any]:
    """What all jobs of a search have in common."""
    return {
        "proxy": proxy,
        "data_dir": str(data_dir),
        "data_digest": data_digest,
        "device": options.device,
        "threads": options.threads,
    }


def run_trials(run: Run, strategy: Strategy[Candidate], engine: Engine, journal: OptunaJournal) -> None:
    """Asks, runs and tells until all trials have ended or every candidate has been tried."""
    options = run.options
    waiting: deque[Trial] = deque()
    running = num_told = num_asked = 0
    is_exhausted = False
    num_known = sum(trial.has_ended for trial in run.trials)
    with SearchProgress(run.console, max(options.trials, num_known), num_known, _best_error(run)) as progress:
        while True:
            raise_if_interrupted()
            # One tell, then as many asks as it makes room for: the same interleaving in every run.
            while not is_exhausted and num_asked < options.trials and num_asked - num_told < options.lookahead:
                candidate = strategy.ask()
                if candidate is None:
                    is_exhausted = True
                    break
                trial = _register(run, num_asked, candidate, strategy.origin)
                if not trial.has_ended:
                    waiting.append(trial)
                num_asked += 1
            if num_told == num_asked:
                break
            if run.history.trials[num_told].has_ended:
                _tell(strategy, run.history.trials[num_told], options)
                num_told += 1
                continue
            while waiting and running < engine.capacity:
                trial = waiting.popleft()
                engine.submit(trial.number, _trial_job(run, trial).model_dump(mode="json"))
                running += 1
            for outcome in engine.wait():
                running -= 1
                trial = _record(run, outcome)
                journal.add(trial)
                if options.from_scratch:
                    _forget_beaten_weights(run)
                progress.trial_ended(trial, _best_error(run), is_news=options.from_scratch or _is_on_front(run, trial))
    if is_exhausted:
        say(run.console, f"All {num_asked} candidates inside the budget have been tried.")


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


def _record(run: Run, outcome: Outcome) -> Trial:
    """Puts the end of a trial on disk before anything else happens with it."""
    trial = run.history.trials[outcome.job_id]
    result = None if outcome.result is None else TrialResult.model_validate(outcome.result)
    run.records.ended(trial.number, result, outcome.failure)
    trial.result, trial.failure = result, outcome.failure
    return trial


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


def run_final_tests(run: Run, engine: Engine) -> None:
    """Scores the front's proxy weights on the test part, once: the only time anything reads it."""
    untested = [trial for trial in keepers(run.trials, run.options.objectives) if trial.test is None]
    for trial in untested:
        weights = run.weights_path(trial)
        if not weights.is_file():
            say(run.console, f"trial {trial.number} cannot be tested: its weights, {weights}, are missing")
    waiting = deque(trial for trial in untested if run.weights_path(trial).is_file())
    while waiting:
        batch = [waiting.popleft() for _ in range(min(engine.capacity, len(waiting)))]
        for trial in batch:
            engine.submit(trial.number, _test_job(run, trial).model_dump(mode="json"))
        outcomes: list[Outcome] = []
        while len(outcomes) < len(batch):
            outcomes += engine.wait()
        for outcome in outcomes:
            _record_test(run, outcome)


def _test_job(run: Run, trial: Trial) -> FinalTestJob:
    return FinalTestJob(arch=trial.candidate.arch, weights_path=str(run.weights_path(trial)), **run.job_fields)


def _record_test(run: Run, outcome: Outcome) -> None:
    trial = run.history.trials[outcome.job_id]
    if outcome.failure is not None:
        say(run.console, f"trial {trial.number} could not be tested: {outcome.failure.message}")
        return
    trial.test = FinalTestResult.model_validate(outcome.result)
    run.records.tested(trial.number, trial.test)


def measure_front(run: Run, engine: Engine) -> None:
    """Times the target networks of the front, where their latency was only predicted so far."""
    unmeasured = [trial for trial in keepers(run.trials, run.options.objectives) if trial.measured_us is None]
    if not run.options.uses_latency or not unmeasured:
        return
    say(run.console, f"Measuring the latency of {len(unmeasured)} networks")
    archs = [trial.candidate.arch for trial in unmeasured]
    for trial, latency in zip(unmeasured, measured_latencies(LatencyTimer(engine, run.options), archs), strict=True):
        trial.measured_us = round(latency, 1)
        run.records.measured(trial.number, trial.measured_us)
