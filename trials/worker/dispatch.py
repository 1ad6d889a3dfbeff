"""Dispatches jobs to the functions that run them, by their type."""

from __future__ import annotations

from typing import Any

from ..engines.jobs import (
    FrontTestJob,
    LandscapeJob,
    LatencyJob,
    RetrainJob,
    SpeedJob,
    StudyTrainingJob,
    SupernetSpeedJob,
    TrialJob,
    parse_job,
)
from ..engines.results import Result
from ..training.devices import compute_with, release_memory
from .context import WorkerContext
from .evaluate import evaluate
from .landscape import measure_point
from .retrain import retrain, run_front_test
from .supernet_timing import measure_supernet_speed
from .timing import measure_latency, measure_training_speed


def execute(payload: dict[str, Any], context: WorkerContext) -> dict[str, Any]:
    """Runs a job given as plain data and returns its result as plain data. `context` holds data kept between jobs."""
    job = parse_job(payload)
    compute_with(job.threads)  # a reused worker would keep the count of its first job
    if isinstance(job, LatencyJob):
        return measure_latency(job).model_dump(mode="json")
    if isinstance(job, LandscapeJob):
        return measure_point(job, context).model_dump(mode="json")
    if isinstance(job, StudyTrainingJob):
        from .study import run_study_training  # here, as it imports timm, which no other job needs

        return run_study_training(job, context).model_dump(mode="json")
    context.forget_changed_images()
    result = _run(job, context)
    context.data_of(job).require_unchanged()  # what was computed from images that changed meanwhile is worth nothing
    return result.model_dump(mode="json")


def _run(job: TrialJob | FrontTestJob | RetrainJob | SpeedJob | SupernetSpeedJob, context: WorkerContext) -> Result:
    match job:
        case FrontTestJob():
            return run_front_test(job, context)
        case RetrainJob():
            return retrain(job, context)
        case SpeedJob():
            speed = measure_training_speed(job, context)
            release_memory()  # the worker now waits while a supernet is trained
            return speed
        case SupernetSpeedJob():
            supernet_speed = measure_supernet_speed(job, context)
            release_memory()
            return supernet_speed
        case _:
            return evaluate(job, context)
