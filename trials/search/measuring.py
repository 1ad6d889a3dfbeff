"""Runs a single measurement job that a search has to wait for, and turns its failure into an error."""

from __future__ import annotations

from typing import Any

from sret_nas.errors import UserError, printable

from ..engines.engine import Engine
from ..engines.jobs import LatencyJob, SpeedJob, SupernetSpeedJob
from ..engines.results import Failure
from ..engines.retries import should_retry
from ..runs.full_disk import raise_if_full


def run_measurement(
    engine: Engine, job: SpeedJob | SupernetSpeedJob | LatencyJob, what: str, smaller: str
) -> dict[str, Any]:
    """Returns the result of a job on an idle engine. A job that failed because of the machine is retried.

    Args:
        what: Names the measurement in messages.
        smaller: Tells the user in messages how to use less memory.

    Raises `UserError` if the job was refused, diverged or ran out of memory, or if the images changed meanwhile,
    `ChildProcessError` if its workers died, `StorageError` for a full disk, and `RuntimeError` with the worker's
    traceback for a bug.
    """
    failures: list[Failure] = []
    while True:
        engine.submit(-1, job.model_dump(mode="json"))
        (outcome,) = engine.wait()
        if outcome.failure is None:
            assert outcome.result is not None
            return outcome.result
        failures.append(outcome.failure)
        if not should_retry(failures):
            _raise(outcome.failure, len(failures), what, smaller)


def _raise(failure: Failure, attempts: int, what: str, smaller: str) -> None:
    raise_if_full(failure)
    message = printable(failure.message)
    if failure.cause == "refused":
        raise UserError(failure.message)
    if failure.cause == "images changed":
        raise UserError(f"{failure.message}; start again, which prepares them anew")
    if failure.cause == "diverged":
        raise UserError(f"{what} diverged: {message}; lower --learning-rate")
    if failure.cause == "out of memory":
        raise UserError(f"{what} does not fit into memory: {message}; {smaller}")
    if failure.cause == "worker died":
        raise ChildProcessError(f"{what} failed {attempts} times, as the worker died: {message}")
    raise RuntimeError(f"{what} failed: {message}\n{failure.traceback}")
