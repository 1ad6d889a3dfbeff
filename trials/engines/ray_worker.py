"""A worker of the Ray engine: an actor on some machine of the cluster that runs one job after another."""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from .engine import RunJob
from .failures import failure_of
from .file_transfer import JobFiles, KeyPath, Payload, value_at, with_values
from .node_cache import NodeCache, default_folder
from .results import Failure


@dataclass(frozen=True)
class WorkerInfo:
    """The process of a worker, and its machine."""

    process_id: int
    host: str
    node_id: str


@dataclass(frozen=True)
class Report:
    """The result or failure of a job, with the content of its output files."""

    result: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None
    outputs: dict[KeyPath, bytes] = field(default_factory=dict)
    """The content of every output file that the job wrote, by its key path, if files are sent back."""


class Worker:
    """Runs `run_job` on payloads."""

    def __init__(self, run_job: RunJob) -> None:
        self._run_job = run_job

    def info(self) -> WorkerInfo:
        """Returns the identity of this worker. The answer also tells the driver that it has started."""
        return WorkerInfo(os.getpid(), socket.gethostname(), ray.get_runtime_context().get_node_id())

    def begin(self) -> None:
        """Does nothing. Its return tells the driver that the next call, a job, starts now."""

    def run(self, payload: Payload, files: JobFiles | None) -> Report:
        """Runs a job. With `files`, inputs come from these bundles and outputs are returned with the report."""
        try:
            if files is None:
                return Report(self._run_job(payload))
            return self._run_with(files, payload)
        except Exception as error:
            return Report(failure=failure_of(error).model_dump(mode="json"))

    def _run_with(self, files: JobFiles, payload: Payload) -> Report:
        cache, here = NodeCache(default_folder()), {}
        with ExitStack() as stack:
            for key_path, bundle in files.bundles.items():
                here[key_path] = str(stack.enter_context(cache.extracted(bundle, ray.get)))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            outputs = {key_path: folder / Path(value_at(payload, key_path)).name for key_path in files.outputs}
            here.update({key_path: str(path) for key_path, path in outputs.items()})
            try:
                result = self._run_job(with_values(payload, here))
            except Exception as error:
                failure = _with_driver_paths(failure_of(error), payload, here)
                return Report(failure=failure.model_dump(mode="json"))
            written = {key_path: path.read_bytes() for key_path, path in outputs.items() if path.exists()}
            return Report(result, outputs=written)


def _with_driver_paths(failure: Failure, payload: Payload, here: dict[KeyPath, str]) -> Failure:
    """Returns a failure with the driver's paths in its message instead of this machine's."""
    message = failure.message
    for key_path, local in here.items():
        message = message.replace(local, value_at(payload, key_path))
    return failure.model_copy(update={"message": message})
