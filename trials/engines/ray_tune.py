"""The Ray Tune engine: runs every job as a trial of `tune.Tuner`, for the sake of Tune's callbacks and results.

The tuner runs in a thread. Its searcher hands out the jobs that were submitted, first in, first out, and its workers
are reused. Tune decides nothing: retries, early stopping and records are the search's own, so nothing is ever restored
from Tune's experiment folder. A job costs more than on the Ray engine, because Tune polls (docs/cluster.md).
"""

from __future__ import annotations

import logging
import math
import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.logger import JsonLoggerCallback

from sret_nas.errors import UserError
from sret_nas.files import write_atomically

from .engine import Engine, Outcome, RunJob
from .failures import failure_of, suspended, timed_out
from .file_transfer import BundleWriter, value_at
from .ray import check_resources, open_session
from .ray_calls import call_with_timeout
from .ray_internals import start_no_ray_unasked
from .ray_pool import POLL_SECONDS, Nodes, live_nodes, require_room, room_for
from .ray_session import RaySession
from .ray_tune_desk import Desk, StopWhenClosing, SubmittedJobs, TrialWatch, TuneJob, failure_in_text
from .ray_tune_trial import FileExchange, JobTrial
from .results import Failure
from .suspension import MAX_OVERSLEEP

EXPERIMENTS = "ray-tune"
"""Folder in the run directory, with one experiment of Tune for every session of the search."""

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer one prints something at any verbosity
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # jobs name their files from the directory of the search
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # three files a trial, where one has all
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the search prints them
}
FIRST_TRIAL_SECONDS = 600.0
"""How long the first trial may wait for its worker. Tune first reserves its resources, which takes long on a busy
machine."""
_END_SECONDS = 30.0
"""How long the end of a tuner may take before it is left behind."""


class RayTuneEngine(Engine):
    """Runs `run_job` in trials of Ray Tune.

    Args:
        run_job: the function, importable by name.
        num_workers: the largest number of trials at once; None means as many as the resources allow.
        address: `auto` or HOST:PORT of a cluster; None starts a Ray on this machine.
        cpus_per_trial: CPUs of each trial.
        gpus_per_trial: GPUs of each trial, a fraction of one or a whole number.
        folder: where Tune keeps its experiments; None keeps none. Closing the engine before `keep_files` removes it.
    """

    def __init__(
        self, run_job: RunJob, num_workers: int | None = None, address: str | None = None,
        cpus_per_trial: float = 1.0, gpus_per_trial: float = 0.0, folder: Path | None = None,
    ) -> None:  # fmt: skip
        """Connects. Raises `UserError` if there is no such cluster, or no room for a worker."""
        check_resources(num_workers, cpus_per_trial, gpus_per_trial)
        self._run_job, self._num_workers = run_job, num_workers
        self._needs = {"CPU": cpus_per_trial, "GPU": gpus_per_trial}
        self._open, self._is_closed = ExitStack(), False
        self._desk = Desk()
        self._tuner: threading.Thread | None = None
        self._exchange: Any = None
        self._jobs: dict[int, TuneJob] = {}
        self._count, self._made = 0, list[Path]()
        self._failed: list[Outcome] = []
        self._submitted = time.monotonic()
        try:
            start_no_ray_unasked()
            self._open.enter_context(_tune_set_up())
            self._folder = folder or Path(self._open.enter_context(tempfile.TemporaryDirectory()))
            self._made = [path for path in (self._folder, *self._folder.parents) if not path.exists()]
            self._session = open_session(run_job, num_workers, address, cpus_per_trial)
            self._open.callback(self._session.end)
            self._bundle_writer = None if self._session.shares_files else BundleWriter(ray.put)
            if self._bundle_writer is not None:
                self._exchange = _file_exchange()
            self._refresh()
            require_room(self._needs, self._nodes, self._session.name)
            self._last_capacity = self.capacity
        except BaseException:
            self.close()
            raise

    @property
    def capacity(self) -> int:
        """The number of trials that live nodes have room for, but at least 1."""
        if time.monotonic() - self._polled > POLL_SECONDS:
            self._refresh()
        room = room_for(self._needs, self._nodes)
        self._last_capacity = max(1, room if self._num_workers is None else min(room, self._num_workers))
        return self._last_capacity

    def _refresh(self) -> None:
        self._nodes: Nodes = live_nodes(self._session.name)
        self._polled = time.monotonic()

    def submit(self, job_id: int, payload: dict[str, Any], time_limit: float | None = None) -> None:
        """Starts a job, or queues it until a worker is free. Its time limit counts from its start."""
        if len(self._jobs) + len(self._failed) >= self._last_capacity:
            raise RuntimeError(f"all {self._last_capacity} workers are busy")
        self._count += 1
        kind = str(payload.get("kind", "job")).replace(" ", "-")
        job = TuneJob(job_id, f"{self._count:05d}-{kind}-{job_id}", payload, time_limit)
        if self._bundle_writer is not None:
            try:
                ray.get(self._exchange.put_inputs.remote(job.name, self._bundle_writer.write(payload)))
            except Exception as error:
                self._failed.append(Outcome(job_id, failure=failure_of(error)))
                return
        self._jobs[job_id], self._submitted = job, time.monotonic()
        self._desk.submitted.put(job)
        if self._tuner is None:
            self._start_tuner()

    def wait(self) -> list[Outcome]:
        """Waits until a job ends. Raises as `_fail_with_tuner` and `_require_worker`."""
        outcomes, self._failed = self._failed, []
        while not outcomes and self._jobs:
            outcomes += self._next_outcomes()
            outcomes += self._end_overdue()
            outcomes += self._fail_with_tuner()
            self._require_worker()
        return outcomes

    def _next_outcomes(self) -> list[Outcome]:
        """Waits up to `POLL_SECONDS` for a job to end, and returns its outcome and those of others that have."""
        left = min((job.deadline for job in self._jobs.values()), default=math.inf) - time.monotonic()
        timeout, before = max(0.0, min(POLL_SECONDS, left)), time.monotonic()
        ended: list[tuple[TuneJob, dict[str, Any] | Failure]] = []
        with suppress(queue.Empty):
            ended.append(self._desk.ended.get(timeout=timeout))
            while True:
                ended.append(self._desk.ended.get_nowait())
        self._was_suspended = time.monotonic() - before > timeout + MAX_OVERSLEEP
        outcomes = []
        for job, end in ended:
            # A job that took too long ends here later, and may by then have been submitted once more.
            if self._jobs.get(job.job_id) is job:
                del self._jobs[job.job_id]
                outcomes.append(self._outcome(job, end))
        return outcomes

    def _outcome(self, job: TuneJob, end: dict[str, Any] | Failure) -> Outcome:
        if isinstance(end, Failure):
            return Outcome(job.job_id, failure=end)
        if self._exchange is not None:
            outputs = ray.get(self._exchange.take_outputs.remote(job.name))
            try:
                for key_path, content in outputs.items():
                    write_atomically(Path(value_at(job.payload, key_path)), content)
            except OSError as error:
                return Outcome(job.job_id, failure=failure_of(error))
        return Outcome(job.job_id, end)

    def _end_overdue(self) -> list[Outcome]:
        """Ends workers whose jobs took too long; Tune sees them die, and the jobs are no longer known by then."""
        outcomes = []
        for job in [*self._jobs.values()]:
            if job.deadline <= time.monotonic():
                assert job.time_limit is not None
                del self._jobs[job.job_id]
                failure = (suspended if self._was_suspended else timed_out)(job.time_limit)
                outcomes.append(Outcome(job.job_id, failure=failure))
                self._kill(job)
        return outcomes

    def _kill(self, job: TuneJob) -> None:
        if job.actor is not None:
            call_with_timeout(partial(ray.kill, job.actor), self._session.name)

    def _fail_with_tuner(self) -> list[Outcome]:
        """Ends all jobs if the tuner has ended by itself; the next job starts another.

        Tune gives up the experiment when Ray ends a worker for its memory. Raises `OSError` as the tuner did, for then
        its folder cannot be written.
        """
        error = self._desk.error
        if error is None:
            return []
        if isinstance(error, OSError):
            raise error
        failed = [Outcome(job_id, failure=failure_in_text(str(error))) for job_id in self._jobs]
        self._end_tuner()
        return failed

    def _require_worker(self) -> None:
        """Raises `UserError` if the first worker does not start, and `HeadLostError` if the cluster is gone."""
        if time.monotonic() - self._polled > POLL_SECONDS:
            self._refresh()
        has_waited = time.monotonic() - self._submitted > FIRST_TRIAL_SECONDS
        if self._jobs and not self._desk.has_started_a_job and has_waited:
            waited = f"within {FIRST_TRIAL_SECONDS:g} s"
            raise UserError(f"no worker was started on {self._session.name} {waited}: do others use all of it?")

    def _start_tuner(self) -> None:
        """Starts an experiment in a folder of its own, and a thread that runs it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        number = 1 + sum(path.is_dir() for path in self._folder.iterdir())
        resources = {name.lower(): amount for name, amount in self._needs.items() if amount > 0}
        trainable = tune.with_parameters(JobTrial, run_job=self._run_job, exchange=self._exchange)
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(
                search_alg=SubmittedJobs(self._desk), num_samples=-1, reuse_actors=True,
                trial_name_creator=_name_of, trial_dirname_creator=_name_of,
            ),
            run_config=tune.RunConfig(
                name=f"session-{number}", storage_path=str(self._folder.absolute()), verbose=0,
                stop=StopWhenClosing(self._desk),
                callbacks=[TrialWatch(self._desk), JsonLoggerCallback()],  # type: ignore[no-untyped-call]
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )  # fmt: skip
        self._tuner = threading.Thread(target=_run_tuner, args=(tuner, self._desk), name="Ray Tune", daemon=True)
        self._tuner.start()

    def _end_tuner(self) -> None:
        """Ends the experiment, with the jobs that run."""
        if self._tuner is None:
            return
        self._desk.is_closing.set()
        for job in [*self._desk.running.values()]:
            with suppress(Exception):  # what is being closed may be lost already
                self._kill(job)
        self._tuner.join(_END_SECONDS)
        self._desk, self._tuner = Desk(), None
        self._jobs.clear()

    @contextmanager
    def released(self) -> Iterator[RaySession]:
        """Ends all workers, and yields the connection while their CPUs and GPUs are free.

        No job may be running. The next job begins another experiment.
        """
        self._end_tuner()
        yield self._session

    def keep_files(self) -> None:
        self._made = []

    def close(self) -> None:
        """Ends the experiment and the connection; a Ray that this engine started ends too."""
        if not self._is_closed:
            self._is_closed = True
            self._end_tuner()
            self._open.close()
            for path in self._made[:1]:
                shutil.rmtree(path, ignore_errors=True)
            for path in self._made[1:]:
                with suppress(OSError):  # it holds something else, so it stays
                    path.rmdir()


def _run_tuner(tuner: tune.Tuner, desk: Desk) -> None:
    try:
        tuner.fit()
        if not desk.is_closing.is_set():
            raise RuntimeError("Ray Tune ended its experiment before the search did")
    except BaseException as error:
        desk.error = error


def _name_of(trial: Any) -> str:
    name: str = trial.config["name"]
    return name


def _file_exchange() -> Any:
    """Starts the exchange beside the driver, with which it would be lost anyway."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    return ray.remote(FileExchange).options(num_cpus=0, scheduling_strategy=here).remote()


@contextmanager
def _tune_set_up() -> Iterator[None]:
    """Sets what Tune takes from environment variables, and hides its messages; both are undone at the end."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    logger = logging.getLogger("ray.tune")
    level = logger.level
    os.environ.update(_ENVIRONMENT)
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
