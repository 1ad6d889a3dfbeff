"""Runs one trial of a recorded search again, to see that its result is what the record says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sret_nas.errors import UserError
from sret_nas.files import validate

from ..console import Console, print_line
from ..data.dataset_cache import cached_dataset, where_begun
from ..engines.inline import InlineEngine
from ..engines.jobs import InheritedTrialJob, ScratchTrialJob
from ..engines.results import TrialResult
from ..engines.retries import JobQueue
from ..program_name import resume_command
from ..runs.objective_texts import TEXTS, known_values
from ..runs.objectives import LEARNED, Objective
from ..runs.recorded_search import RecordedSearch
from ..runs.records import Records
from ..training.recipe import ProxyConfig
from ..worker.entry import JobRunner
from .run import Run
from .supernet import require_given
from .trial_loop import trial_job


def rerun_trial(run_dir: Path, number: int, console: Console) -> None:
    """Runs a finished trial again, whole and without writing anything, and prints both results.

    Raises `UserError` if the search has no such trial, or if its images are not there.
    """
    search = RecordedSearch.open(run_dir)
    trial = search.history.trials.get(number)
    if trial is None or trial.result is None:
        finished = sum(other.result is not None for other in search.history.in_order)
        raise UserError(
            f"{run_dir}: --trial must be the number of a finished trial, of which there are {finished}, got {number}"
        )
    with where_begun("a trial", option=f"`{resume_command('search', run_dir, '--data NEW')}`"):
        data_dir, data = cached_dataset(run_dir, search.options.data_config, console)
    if data.digest != search.history.header["data"]["digest"]:
        raise UserError(f"{run_dir}: the images are not those that the search used, so no result can be compared")
    proxy = validate(ProxyConfig, search.history.header["proxy"], str(run_dir))
    with Records(run_dir, must_exist=True) as records:
        run = Run(run_dir, search.options, search.domain, data_dir, proxy, records, search.history, console)
        require_given(run, "a trial", f"`{resume_command('search', run_dir, '--supernet NEW')}`")
        whole = type(trial)(trial.number, trial.candidate, trial.origin)
        job = trial_job(run, whole, fraction=1.0)
        if isinstance(job, ScratchTrialJob):
            job = job.model_copy(update={"weights_path": None})  # the recorded trial's weights stay as they are
        assert isinstance(job, ScratchTrialJob | InheritedTrialJob)
        with InlineEngine(JobRunner()) as engine:
            queue = JobQueue(engine)
            queue.add(number, job, None)
            queue.start()
            (end,) = queue.wait()
    if end.failure is not None:
        raise UserError(f"{run_dir}: trial {number} failed when it ran again: {end.failure.message}")
    again = TrialResult.model_validate(end.result)
    recorded_values, values = (_learned(result, search.options.objectives) for result in (trial.result, again))
    for what, known, result in (("recorded", recorded_values, trial.result), ("again", values, again)):
        errors = ", ".join(
            f"{TEXTS[name].word} {value:{'.6f' if name == 'cross_entropy' else '.4%'}}" for name, value in known.items()
        )
        print_line(console, f"{what}: {errors}, {result.seconds:.1f} s")
    is_equal = values == recorded_values
    print_line(
        console, "Equal to the last bit." if is_equal else f"Different; the record is of {_environment(search)}."
    )


def _learned(result: TrialResult, objectives: Sequence[Objective]) -> dict[Objective, float]:
    return {name: value for name, value in known_values(result, objectives).items() if name in LEARNED}


def _environment(search: RecordedSearch) -> str:
    versions = search.history.header["versions"]
    return f"torch {versions.get('torch', 'of an unknown version')} on {search.history.header['device']}"
