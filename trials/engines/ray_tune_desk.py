"""What the driver's thread and Ray Tune's share, and how Tune hears of jobs and the driver of their ends.

Tune asks a searcher what to run, a stopper whether to go on, and tells callbacks what happened.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ray import tune
from ray.tune import Callback, Stopper
from ray.tune.search import Searcher

from .file_transfer import Payload
from .ray_pool import reason_of
from .ray_tune_trial import FIELDS
from .results import Failure

IDLE_SECONDS = 0.5
"""How long the tuner waits for the next job while none runs."""


@dataclass
class TuneJob:
    """A job on its way through the tuner."""

    job_id: int
    name: str
    payload: Payload
    time_limit: float | None
    trial_id: str | None = None
    """Tune's; None as long as the tuner has not taken the job."""
    actor: Any = None
    """The worker; None as long as the job waits for one."""
    deadline: float = math.inf
    """When it reaches the time limit, on the monotonic clock."""


class Desk:
    """What the driver's thread and the tuner's share: jobs that were submitted, that run, and that ended."""

    def __init__(self) -> None:
        self.submitted: queue.SimpleQueue[TuneJob] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[tuple[TuneJob, dict[str, Any] | Failure]] = queue.SimpleQueue()
        self.running: dict[str, TuneJob] = {}
        """By Tune's trial number. Only the tuner's thread changes it."""
        self.is_closing = threading.Event()
        self.has_started_a_job = False
        self.error: BaseException | None = None
        """What ended the tuner before its time."""


class SubmittedJobs(Searcher):
    """Proposes to Tune what was submitted."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk

    def suggest(self, trial_id: str) -> Any:
        # Tune sleeps for a second whenever it gets no trial and none runs. Waiting here is over as soon as a job comes.
        timeout = 0.0 if self._desk.running else IDLE_SECONDS
        try:
            job = self._desk.submitted.get(timeout=timeout)
        except queue.Empty:
            return self.FINISHED if self._desk.is_closing.is_set() else None
        job.trial_id = trial_id
        self._desk.running[trial_id] = job
        return {"name": job.name, "payload": job.payload}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Does nothing: `TrialWatch` sees more of a trial's end."""

    def __reduce__(self) -> tuple[type[Searcher], tuple[()]]:
        return Searcher, ()  # Tune pickles it into its experiment folder, and nothing is restored from there


class StopWhenClosing(Stopper):
    """Stops the experiment, trials that wait for a worker included, once the engine is closing."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._desk.is_closing.is_set()

    def __reduce__(self) -> tuple[type[tune.stopper.NoopStopper], tuple[()]]:
        return tune.stopper.NoopStopper, ()  # as `SubmittedJobs`


class TrialWatch(Callback):
    """Follows the trials of the tuner."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        job = self._desk.running[trial.trial_id]
        if job.time_limit is not None:
            job.deadline = time.monotonic() + job.time_limit
        job.actor = trial.temporary_state.ray_actor
        self._desk.has_started_a_job = True

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        job, report = self._desk.running.pop(trial.trial_id), trial.last_result
        self._desk.ended.put((job, {key: report[key] for key in report[FIELDS]}))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        text = "" if trial.error_file is None else Path(trial.error_file).read_text()
        self._desk.ended.put((self._desk.running.pop(trial.trial_id), failure_in_text(text)))

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        return Callback, ()  # as `SubmittedJobs`


def failure_in_text(text: str) -> Failure:
    """Returns the failure in the text of an error of Ray or of a trial's `error.txt`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["Ray Tune says no reason"]
    with suppress(ValidationError):
        return Failure.model_validate_json(lines[-1])  # of `JobFailedError`
    if "low on memory" in text:
        return Failure(cause="out of memory", message="the memory of its machine was nearly full: Ray ended the worker")
    if "creation task" in text or "runtime environment" in text:
        return Failure(cause="refused", message=f"workers cannot be started: {lines[-1]}")
    if "node has died" in text or "ActorUnavailableError" in text:
        return Failure(cause="worker died", message="the machine of its worker was lost or cannot be reached any more")
    known = f"its worker process ended in the middle of the job: {reason_of(lines[-1])}"
    return Failure(cause="worker died", message=f"{known} It crashed, left, or was killed, often for its memory")
