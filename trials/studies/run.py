"""Runs a study from its options to its results, or resumes one from its records.

Trainings are jobs on the same engines as a search's trials. The record of each is on disk before anything depends on
it, and a training that was begun goes on from its checkpoint. So an interrupted study loses at most a minute of each
training that was running, and does nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sret_nas.errors import UserError
from sret_nas.files import write_atomically
from sret_nas.output_files import require_empty_folder
from sret_nas.plurals import counted
from sret_nas.yaml_files import dump_yaml

from ..console import Console, print_line
from ..data.dataset_cache import require_apart, where_begun
from ..data.whole_images import WholeImages
from ..engines.engine import Engine
from ..engines.results import StudyTrainingResult
from ..engines.retries import AttemptResult, JobQueue, default_time_limit
from ..interruption import ignore_signals_after_interrupt, raise_if_interrupted, unwrapped_interrupts
from ..lost_directory import LostDirectoryError
from ..machine import processor_name
from ..program_name import resume_command
from ..report.study import StudyOutcome, show_outcome
from ..report.study_files import write_study_results
from ..runs.checksums import with_checksum
from ..runs.create_engine import create_engine
from ..runs.directory import RECORDS_FILE, versions
from ..runs.full_disk import full_disk_explained, raise_if_nothing_can_be_recorded, recorded_in
from ..runs.record_file import RecordFile
from ..runs.study import TEACHER
from ..runs.study_options import StudyOptions
from ..runs.study_records import (
    StudyHeader,
    StudyHistory,
    StudyImages,
    StudyInterrupted,
    StudyResumed,
    TrainingFailed,
    TrainingFinished,
    TrainingRetried,
    begin_history,
    read_study_history,
)
from ..training.progress_note import NOTE
from ..worker.entry import JobRunner
from .plan import StudyPlan, describe_total, measure_plan
from .progress import StudyProgress, name_of
from .trainings import PlannedTraining, StudyJobContext, planned_trainings

DEFINITION = "study.yaml"
"""File in the run directory with the study as it was when it began."""

RESULTS_SECONDS = 60.0
"""Between two writings of the results of a study that goes on."""

CHECKPOINT = "checkpoint.pt"
"""File in a training's folder, which goes once the training has ended."""


@ignore_signals_after_interrupt()
def start_study(options: StudyOptions, run_dir: Path, command: list[str], console: Console) -> StudyOutcome:
    """Runs a new study to its end and returns what came out.

    Raises `UserError`, before anything is written, if the study is impossible, and `StorageError` if the disk is full.
    """
    require_empty_folder(run_dir)
    loaded = options.load()
    config = options.data_config_of(loaded)
    require_apart(run_dir, config)
    images = WholeImages.find(config)
    for line in (f"Data: {options.data}: {images.summary()}", *(f"  {note}" for note in images.notes)):
        print_line(console, line)
    context = StudyJobContext(
        run_dir=run_dir, options=options, data=config, data_digest=images.digest, classes=len(images.class_names),
        channels=images.channels,
    )  # fmt: skip
    seeds = range(options.seed, options.seed + (options.seeds or loaded.study.seeds))
    planned = planned_trainings(loaded, seeds, context)
    study = loaded.study
    print_line(
        console, f"Study: {study.title}: {counted(len(study.variants), 'variant')} on {counted(len(seeds), 'seed')}"
        + ("" if loaded.teacher is None else ", and a teacher")
    )  # fmt: skip
    with create_engine(options, JobRunner(), len(planned), run_dir, console) as engine:
        distinct = list({one.training.name: one for one in planned}.values())
        plan = measure_plan(engine, distinct, console)
        plan.announce(console, planned, engine.capacity)
        print_line(console, f"Results: {run_dir}")
        require_empty_folder(run_dir)  # again, since measuring takes long
        header = _header(options, loaded.to_dict(), images, context, plan, command)
        write_atomically(run_dir / RECORDS_FILE, with_checksum(header.model_dump(mode="json")))
        write_atomically(run_dir / DEFINITION, dump_yaml(loaded.study.model_dump(mode="json", exclude_defaults=True)))
        with RecordFile(run_dir / RECORDS_FILE) as records:
            return _run_to_the_end(StudyRun(context, begin_history(header), records, planned, console), engine)


@ignore_signals_after_interrupt()
def resume_study(run_dir: Path, given: Mapping[str, Any], console: Console) -> StudyOutcome:
    """Resumes a study, runs it to its end and returns what came out.

    Args:
        run_dir: its run directory.
        given: options on the command line, plain data by field name of `StudyOptions`; with more `seeds`, it is longer.
        console: for plan and progress.

    Raises `UserError` if the study cannot be resumed, and `StorageError` if the disk is full.
    """
    with ExitStack() as stack:
        read_study_history(run_dir)  # names what is wrong before anything is locked
        records = stack.enter_context(RecordFile(run_dir / RECORDS_FILE))
        history = read_study_history(run_dir)
        before = history.seeds
        history.options = history.options.resumed_with(dict(given))
        if len(history.seeds) < len(before):
            raise UserError(f"--seeds must be at least the {len(before)} of the study, got {len(history.seeds)}")
        config = history.options.data_config_of(history.loaded)
        with where_begun("a resumed study"):
            images = WholeImages.find(config)
        digest = history.header.data.digest
        if images.digest != digest:
            raise UserError(
                f"the images of {config.source} are not those that {run_dir} was begun with: put those back, say with "
                "--data where they are, or start a new study"
            )
        context = StudyJobContext(
            run_dir=run_dir, options=history.options, data=config, data_digest=digest,
            classes=len(images.class_names), channels=images.channels,
        )  # fmt: skip
        planned = planned_trainings(history.loaded, history.seeds, context)
        left = [one for one in planned if not history.has_ended(one.key)]
        trainings = counted(len(planned), "training has", "trainings have")
        print_line(console, f"Resuming {run_dir}: {len(planned) - len(left)} of {trainings} ended.")
        run = StudyRun(context, history, records, planned, console)
        if not left:
            return run.conclude()
        engine = stack.enter_context(create_engine(history.options, JobRunner(), len(left), run_dir, console))
        expected = [history.header.expected_seconds.get(one.training.name, 0.0) for one in left]
        print_line(console, f"Plan: {counted(len(left), 'training')}, {describe_total(expected, engine.capacity)}")
        records.append(
            StudyResumed(
                time=time.time(),
                options=history.options.model_dump(mode="json"),
                versions=versions(),
                limits_cluster=history.options.limits_cluster,
            ).model_dump(mode="json")
        )
        return _run_to_the_end(run, engine)


def _header(
    options: StudyOptions, study: dict[str, Any], images: WholeImages, context: StudyJobContext, plan: StudyPlan,
    command: list[str],
) -> StudyHeader:  # fmt: skip
    return StudyHeader(
        time=time.time(),
        command=tuple(command),
        options=options.model_dump(mode="json"),
        study=study,
        data=StudyImages(
            name=Path(options.data).name,
            digest=context.data_digest,
            classes=context.classes,
            channels=context.channels,
            train_images=len(images.train),
            val_images=len(images.val),
            test_images=len(images.test),
        ),
        versions=versions(),
        device=plan.device,
        processor=processor_name(),
        expected_seconds={name: round(seconds, 3) for name, seconds in plan.seconds.items()},
        memory_mb=round(plan.memory_mb, 1),
        limits_cluster=options.limits_cluster,
    )


@dataclass
class StudyRun:
    """A running study."""

    context: StudyJobContext
    history: StudyHistory
    records: RecordFile
    planned: list[PlannedTraining]
    console: Console

    def conclude(self) -> StudyOutcome:
        """Writes and prints the results, as far as there are any, and returns them."""
        outcome = StudyOutcome.of(self.history)
        write_study_results(self.context.run_dir, outcome, self.console)
        show_outcome(outcome, self.console)
        if outcome.any_result is not None:
            print_line(self.console, f"Results: {self.context.run_dir}/results.md, .png, .json and .csv")
        return outcome


def _run_to_the_end(run: StudyRun, engine: Engine) -> StudyOutcome:
    run_dir = run.context.run_dir
    with full_disk_explained(resume_command("study run", run_dir), recorded_in(run_dir)):
        _run_trainings(run, engine)
        return run.conclude()


def _run_trainings(run: StudyRun, engine: Engine) -> None:
    """Runs all trainings. Where that ends early, errors say how to carry on, and what there is becomes results."""
    run_dir = run.context.run_dir
    try:
        with unwrapped_interrupts():
            _Loop(run, engine).run()
    except KeyboardInterrupt:
        run.records.append(StudyInterrupted(time=time.time()).model_dump(mode="json"))
        write_study_results(run_dir, StudyOutcome.of(run.history), run.console)
        print_line(run.console, f"Interrupted; carry on with: {resume_command('study run', run_dir)}")
        raise
    except LostDirectoryError as error:
        if error.rescued is None:
            raise
        advice = f"carry on with: {resume_command('study run', error.rescued)}"
        raise LostDirectoryError(f"{error}; {advice}", error.rescued) from None


class _Loop:
    """Hands trainings to an engine and records what becomes of them."""

    def __init__(self, run: StudyRun, engine: Engine) -> None:
        self._run, self._queue = run, JobQueue(engine)
        self._waiting = [one for one in run.planned if not run.history.has_ended(one.key)]
        """Trainings that are not in the queue yet; those of a teacher's students wait for the teacher."""
        self._written = time.monotonic()
        history = run.history
        self._progress = StudyProgress(
            run.planned, lambda one: history.has_ended(one.key), history.header.expected_seconds, engine.capacity,
            run.console,
        )  # fmt: skip

    def run(self) -> None:
        """Runs until all trainings have ended."""
        with self._progress:
            self._enqueue()
            while not self._queue.is_empty:
                raise_if_interrupted()
                self._queue.start()
                for end in self._queue.wait():
                    self._record(end)
                self._enqueue()
        for one in self._waiting:
            print_line(self._run.console, f"{name_of(one)}: not run, because its teacher failed")

    def _enqueue(self) -> None:
        history = self._run.history
        is_taught = any(name == TEACHER for name, _ in history.finished)
        ready = [one for one in self._waiting if is_taught or not one.needs_teacher]
        self._waiting = [one for one in self._waiting if one not in ready]
        for one in ready:
            expected = history.header.expected_seconds.get(one.training.name, 0.0)
            limit = self._run.context.options.trial_timeout or default_time_limit(expected)
            self._queue.add(self._run.planned.index(one), one.job, limit, history.retried.get(one.key, ()))

    def _record(self, end: AttemptResult) -> None:
        """Records the end of an attempt, on disk before anything depends on it."""
        raise_if_nothing_can_be_recorded(end.failure)
        planned = self._run.planned[end.job_id]
        about: dict[str, Any] = {
            "time": time.time(), "variant": planned.training.name, "seed": planned.seed,
            "seconds": round(end.seconds, 3),
        }  # fmt: skip
        event: TrainingFinished | TrainingFailed | TrainingRetried
        if end.failure is not None:
            self._run.records.require_in_place()  # the failure may come of the lost directory
            kind = TrainingRetried if end.will_run_again else TrainingFailed
            event = kind(failure=end.failure, **about)
        else:
            event = TrainingFinished(result=StudyTrainingResult.model_validate(end.result), **about)
        self._run.records.append(event.model_dump(mode="json"))
        self._run.history.apply(event, RECORDS_FILE)
        self._progress.tell(planned, event)
        if isinstance(event, TrainingFinished):
            for name in (CHECKPOINT, NOTE):
                (planned.directory / name).unlink(missing_ok=True)
            self._write_results()

    def _write_results(self) -> None:
        """Writes what has come out so far, now and then."""
        now = time.monotonic()
        if now - self._written >= RESULTS_SECONDS:
            self._written = now
            run = self._run
            write_study_results(run.context.run_dir, StudyOutcome.of(run.history), self._progress.console)
