"""A worker of the Ray engine: a process on some machine of the cluster that runs one job after the other."""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from trials.engines.engine import RunJob
from trials.engines.failures import failure_of
from trials.engines.file_transfer import Luggage, Payload, Place, value_at, with_values
from trials.engines.messages import Failure
from trials.engines.node_cache import NodeCache, default_folder


@dataclass(frozen=True)
class Home:
    """Where a worker lives."""

    process_id: int
    host: str
    node_id: str


@dataclass(frozen=True)
class Report:
    """The end of a job, as the worker tells it."""

    result: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None
    left: dict[Place, bytes] = field(default_factory=dict)
    """What the job left where it was to leave files, if that travels."""


class Worker:
    """Runs `run_job` on payloads. With luggage, what a payload names is taken from it, and not from this machine."""

    def __init__(self, run_job: RunJob) -> None:
        self._run_job = run_job

    def home(self) -> Home:
        return Home(os.getpid(), socket.gethostname(), ray.get_runtime_context().get_node_id())

    def begin(self) -> None:
        """Tells, by ending well, that the worker has come to the job that follows."""

    def run(self, payload: Payload, luggage: Luggage | None) -> Report:
        try:
            if luggage is None:
                return Report(self._run_job(payload))
            return self._run_with(luggage, payload)
        except Exception as error:
            return Report(failure=failure_of(error).model_dump(mode="json"))

    def _run_with(self, luggage: Luggage, payload: Payload) -> Report:
        cache, here = NodeCache(default_folder()), {}
        with ExitStack() as stack:
            for place, parcel in luggage.parcels.items():
                here[place] = str(stack.enter_context(cache.provided(parcel, ray.get)))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            left = {place: folder / Path(value_at(payload, place)).name for place in luggage.left}
            here.update({place: str(path) for place, path in left.items()})
            try:
                result = self._run_job(with_values(payload, here))
            except Exception as error:
                failure = _as_asked(failure_of(error), payload, here)
                return Report(failure=failure.model_dump(mode="json"))
            return Report(result, left={place: path.read_bytes() for place, path in left.items() if path.exists()})


def _as_asked(failure: Failure, payload: Payload, here: dict[Any, str]) -> Failure:
    """A failure that names files as the job did, not where they lay on this machine."""
    message = failure.message
    for place, local in here.items():
        message = message.replace(local, value_at(payload, place))
    return failure.model_copy(update={"message": message})
