"""What a worker does with a job: the one place where the kinds of jobs meet those that run them."""

from __future__ import annotations

from typing import Any

from trials.engines.messages import FrontTestJob, Job, LatencyJob, Result, RetrainJob, SpeedJob, parse_job
from trials.training.devices import compute_with
from trials.worker.evaluate import evaluate
from trials.worker.retrain import retrain, run_front_test
from trials.worker.timing import measure_latency, measure_training_speed


def execute(payload: dict[str, Any]) -> dict[str, Any]:
    """Runs one job given as plain data and returns its result as plain data."""
    job = parse_job(payload)
    compute_with(job.threads)  # a reused worker would keep the count of its first job
    return _run(job).model_dump(mode="json")


def _run(job: Job) -> Result:
    match job:
        case FrontTestJob():
            return run_front_test(job)
        case RetrainJob():
            return retrain(job)
        case LatencyJob():
            return measure_latency(job)
        case SpeedJob():
            return measure_training_speed(job)
        case _:
            return evaluate(job)
