"""The end of a search whose trials train from scratch: scores the front's weights on the test part."""

from __future__ import annotations

from ..console import print_line
from ..engines.engine import Engine
from ..engines.jobs import FrontTestJob
from ..engines.results import FrontTestResult
from ..engines.retries import AttemptResult, JobQueue
from ..interruption import raise_if_interrupted
from ..runs.full_disk import raise_if_nothing_can_be_recorded
from ..runs.objectives import archived
from ..runs.trial import Trial
from .finalists import recommended_trials
from .run import Run


def run_front_tests(run: Run, engine: Engine) -> None:
    """Scores the front's proxy weights on the test part, once each. Nothing else reads that part."""
    queue = JobQueue(engine)
    front = archived(run.trials, run.options.objectives)
    # A recommended network that was dominated when its trial ended has no weights any more.
    others = [trial for trial in recommended_trials(run) if trial not in front and run.weights_path(trial).is_file()]
    for trial in front + others:
        if trial.test is not None:
            continue
        if run.weights_path(trial).is_file():
            queue.add(trial.number, _test_job(run, trial), run.final_time_limit)
        else:
            weights = run.weights_path(trial)
            print_line(run.console, f"trial {trial.number} cannot be tested: its weights, {weights}, are missing")
    while not queue.is_empty:
        raise_if_interrupted()
        queue.start()
        for end in queue.wait():
            _record(run, end)


def _test_job(run: Run, trial: Trial) -> FrontTestJob:
    return FrontTestJob(arch=trial.arch, weights_path=str(run.weights_path(trial)), **dict(run.job_context))


def _record(run: Run, end: AttemptResult) -> None:
    raise_if_nothing_can_be_recorded(end.failure)
    trial = run.history.trials[end.job_id]
    if end.failure is not None:
        again = "; once more" if end.will_run_again else ""
        print_line(run.console, f"trial {trial.number} could not be tested: {end.failure.message}{again}")
        return
    trial.test = FrontTestResult.model_validate(end.result)
    run.records.tested(trial.number, trial.test)
