"""The worker of the Ray Tune engine: a trainable whose only step is one job."""

from __future__ import annotations

from typing import Any

import ray
from ray import tune

from .engine import RunJob
from .file_transfer import JobFiles, KeyPath
from .ray_worker import Worker
from .results import Failure

FIELDS = "fields"
"""The key under which a report names the keys of the job's result, beside which Tune adds its own."""


class JobFailedError(Exception):
    """Raised in a worker to end its trial with a failure. Tune then replaces the worker."""

    def __init__(self, failure: dict[str, Any]) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        """Returns what ends the trial's `error.txt`: the failure in JSON, on a line of its own."""
        failure = Failure.model_validate(self.failure)
        return f"{failure.cause}: {failure.message}\n{failure.model_dump_json()}"


class FileExchange:
    """An actor that holds the files of running jobs, by the job's name, so that Tune's records stay small.

    Used on clusters alone, where workers do not see the driver's files.
    """

    def __init__(self) -> None:
        self._inputs: dict[str, JobFiles] = {}
        self._outputs: dict[str, dict[KeyPath, bytes]] = {}

    def put_inputs(self, name: str, files: JobFiles) -> None:
        self._inputs[name] = files

    def take_inputs(self, name: str) -> JobFiles:
        return self._inputs.pop(name)

    def put_outputs(self, name: str, outputs: dict[KeyPath, bytes]) -> None:
        self._outputs[name] = outputs

    def take_outputs(self, name: str) -> dict[KeyPath, bytes]:
        return self._outputs.pop(name)


class JobTrial(tune.Trainable):
    """Runs one job per trial, in one process after another job.

    The configuration has the job's `name` and its `payload`.
    """

    def setup(self, config: dict[str, Any], run_job: RunJob | None = None, exchange: Any = None) -> None:
        assert run_job is not None
        self._job, self._exchange, self._worker = config, exchange, Worker(run_job)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next job, so that Tune reuses this process."""
        self._job = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Runs the job, and returns its result. Raises `JobFailedError` if it fails."""
        name, files = self._job["name"], None
        if self._exchange is not None:
            files = ray.get(self._exchange.take_inputs.remote(name))
        report = self._worker.run(self._job["payload"], files)
        if report.failure is not None:
            raise JobFailedError(report.failure)
        if self._exchange is not None:
            ray.get(self._exchange.put_outputs.remote(name, report.outputs))
        assert report.result is not None
        return {**report.result, FIELDS: sorted(report.result), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Saves nothing: the records of the search are what it resumes from."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Restores nothing, as nothing was saved."""
