"""Experiment trackers: MLflow, Weights & Biases and TensorBoard behind one interface that takes plain data.

MLflow writes to `MLFLOW_TRACKING_URI` or, without it, to a database in the run directory. Weights & Biases obeys its
own variables, such as `WANDB_MODE=offline`. The libraries are imported when a tracker is made: MLflow takes seconds.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from sret_nas.errors import UserError

TrackerName = Literal["mlflow", "wandb"]

PROJECT = "sret-nas"
"""Name of the experiment (MLflow) or project (Weights & Biases), unless the tracker's own variables say another."""

MAX_PARAM_LENGTH = 500
"""Characters of an option's value that MLflow gets: servers refuse long ones."""


def require_trackers(names: Iterable[TrackerName]) -> None:
    """Raises `UserError` if the library of a tracker is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise UserError(f"--log {name} needs {name}, which is not installed: pip install -e '.[{name}]'")


class Tracker(ABC):
    """One run of a tracker, which may be continued in another process by its `run_id`."""

    name: str
    run_id: str = ""

    @abstractmethod
    def log(self, metrics: Mapping[str, float], step: int, seconds: float) -> None:
        """Logs metrics of the trial with number `step`, which were known at `seconds` since the epoch."""

    @abstractmethod
    def finish(self, files: Iterable[Path], *, is_complete: bool) -> None:
        """Logs files as artifacts and ends the run."""


class MlflowTracker(Tracker):
    """A run of MLflow."""

    name = "mlflow"

    def __init__(self, run_dir: Path, options: Mapping[str, Any], run_id: str | None) -> None:
        """Begins a run, or continues that with `run_id`."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing of a search leaves unasked
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        for chatty in ("mlflow", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self._metric = Metric
        address = os.environ.get("MLFLOW_TRACKING_URI")
        artifacts = None if address else (run_dir / "mlflow-artifacts").absolute().as_uri()
        self._client = MlflowClient(tracking_uri=address or f"sqlite:///{(run_dir / 'mlflow.db').absolute()}")
        if run_id is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            known = self._client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else self._client.create_experiment(name, artifacts)
            run_id = self._client.create_run(experiment, run_name=run_dir.name).info.run_id
            given = [Param(key, str(value)[:MAX_PARAM_LENGTH]) for key, value in options.items()]
            for begin in range(0, len(given), 100):  # the most that one request takes
                self._client.log_batch(run_id, params=given[begin : begin + 100])
        self.run_id = run_id
        self._client.update_run(run_id, status="RUNNING")

    def log(self, metrics: Mapping[str, float], step: int, seconds: float) -> None:
        logged = [self._metric(key, value, round(1000 * seconds), step) for key, value in metrics.items()]
        self._client.log_batch(self.run_id, metrics=logged)

    def finish(self, files: Iterable[Path], *, is_complete: bool) -> None:
        for path in files:
            if path.is_dir():
                self._client.log_artifacts(self.run_id, str(path), path.name)
            else:
                self._client.log_artifact(self.run_id, str(path))
        self._client.set_terminated(self.run_id, "FINISHED" if is_complete else "KILLED")


class WandbTracker(Tracker):
    """A run of Weights & Biases, whose files lie in the run directory."""

    name = "wandb"

    def __init__(self, run_dir: Path, options: Mapping[str, Any], run_id: str | None) -> None:
        """Begins a run, or continues that with `run_id`."""
        import wandb

        self._make_artifact = wandb.Artifact
        self._run_name = run_dir.name
        settings = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=run_dir.name, id=run_id, resume="allow",
            dir=str(run_dir.absolute()), config=dict(options), settings=settings,
        )  # fmt: skip
        self._run.define_metric("*", step_metric="trial")  # trials end in any order, and its own steps only grow
        self.run_id = self._run.id

    def log(self, metrics: Mapping[str, float], step: int, seconds: float) -> None:
        self._run.log({**metrics, "trial": step, "seconds_since_epoch": seconds})

    def finish(self, files: Iterable[Path], *, is_complete: bool) -> None:
        artifact = self._make_artifact(f"search-{self.run_id}", type="search")
        for path in files:
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:  # `add_dir` prints what it does
                artifact.add_file(str(file), name=str(file.relative_to(path.parent)))
        self._run.log_artifact(artifact)
        self._run.finish(exit_code=0 if is_complete else 1)


@contextmanager
def _without(library: str) -> Iterator[None]:
    """Lets a library seem not to be installed while something is imported that would use it, unless it is loaded.

    tensorboardX imports torch in order to take tensors as well as numbers: 300 MB and some seconds, which a driver
    that trains nothing itself has no use for.
    """
    if library in sys.modules:
        yield
        return
    sys.modules[library] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[library]


class TensorBoardTracker(Tracker):
    """Scalars of TensorBoard in the run directory, which are written anew in every session."""

    name = "tensorboard"

    def __init__(self, run_dir: Path) -> None:
        with _without("torch"):
            from tensorboardX import SummaryWriter  # type: ignore[import-untyped]

        folder = run_dir / "tensorboard"
        for events in folder.glob("events.out.tfevents.*"):  # of the sessions before; what else is there is not ours
            events.unlink(missing_ok=True)
        self._writer = SummaryWriter(str(folder))

    def log(self, metrics: Mapping[str, float], step: int, seconds: float) -> None:
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, step, walltime=seconds or time.time())

    def finish(self, files: Iterable[Path], *, is_complete: bool) -> None:
        self._writer.close()


def open_tracker(name: TrackerName, run_dir: Path, options: Mapping[str, Any], run_id: str | None) -> Tracker:
    """Begins a tracker's run with these options, or continues that with `run_id`."""
    return (MlflowTracker if name == "mlflow" else WandbTracker)(run_dir, options, run_id)
