"""An engine that the project does not use: Ray Tune, whose searcher hands out the jobs that are submitted.

Here to be measured. Only what the measurement needs of the contract is there: no failures, no time limits.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from typing import Any

os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"

import ray
from ray import tune
from ray.tune.search import Searcher

from trials.engines.engine import Engine, Outcome, RunJob


class _Searcher(Searcher):
    def __init__(self, jobs: queue.Queue[Any], outcomes: queue.Queue[Outcome], is_closed: threading.Event) -> None:
        super().__init__()
        self._jobs, self._outcomes, self._is_closed = jobs, outcomes, is_closed
        self._running: dict[str, int] = {}

    def __reduce__(self) -> Any:
        return Searcher, ()  # Tune saves it, and a queue cannot be saved

    def suggest(self, trial_id: str) -> Any:
        try:
            job_id, payload = self._jobs.get_nowait()
        except queue.Empty:
            return self.FINISHED if self._is_closed.is_set() else None
        self._running[trial_id] = job_id
        return {"payload": payload}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._outcomes.put(Outcome(self._running.pop(trial_id), result))


class DrivenTune(Engine):
    def __init__(self, run_job: RunJob, num_workers: int) -> None:
        self._num_workers = num_workers
        self._jobs: queue.Queue[Any] = queue.Queue()
        self._outcomes: queue.Queue[Outcome] = queue.Queue()
        self._is_closed = threading.Event()
        self._num_running = 0

        class Trial(tune.Trainable):
            def setup(self, config: dict[str, Any]) -> None:
                self.config = config

            def reset_config(self, new_config: dict[str, Any]) -> bool:
                self.config = new_config
                return True

            def step(self) -> dict[str, Any]:
                return {**run_job(self.config["payload"]), "done": True}

            def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
                return {}

            def load_checkpoint(self, checkpoint: Any) -> None:
                pass

        quietly: dict[str, Any] = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
        ray.init(address="local", num_cpus=num_workers, **quietly)
        tuner = tune.Tuner(
            tune.with_resources(Trial, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=_Searcher(self._jobs, self._outcomes, self._is_closed), num_samples=-1, reuse_actors=True
            ),
            run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0),
        )
        self._thread = threading.Thread(target=tuner.fit, daemon=True)
        self._thread.start()

    @property
    def capacity(self) -> int:
        return self._num_workers

    def submit(self, job_id: int, payload: dict[str, Any], time_limit: float | None = None) -> None:
        self._jobs.put((job_id, payload))
        self._num_running += 1

    def wait(self) -> list[Outcome]:
        if self._num_running == 0:
            return []
        self._num_running -= 1
        return [self._outcomes.get()]

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()
        ray.shutdown()
