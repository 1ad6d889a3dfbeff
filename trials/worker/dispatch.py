"""What a worker does with a job: the one place where the kinds of jobs meet those that run them."""

from __future__ import annotations

from typing import Any

from trials.engines.messages import FrontTestJob, Job, LatencyJob, Result, RetrainJob, TrialJob, parse_job
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
    if isinstance(job, TrialJob):
        return evaluate(job)
    if isinstance(job, FrontTestJob):
        return run_front_test(job)
    if isinstance(job, RetrainJob):
        return retrain(job)
    if isinstance(job, LatencyJob):
        return measure_latency(job)
    return measure_training_speed(job)
