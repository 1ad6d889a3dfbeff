"""The Ray Tune engine: the conformance test, failures of its workers, its experiments, and a whole search."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune import Callback, ExperimentAnalysis

from tests.trials.engines.jobs_for_engines import misbehave
from tests.trials.engines.jobs_for_ray import look_around
from tests.trials.ray_machines import Machines
from trials.command_line.main import main
from trials.engines.conformance import EngineContract, run_all
from trials.engines.engine import Engine
from trials.engines.ray_tune import EXPERIMENTS, RayTuneEngine
from trials.runs.recorded_search import RecordedSearch

SQUARE = {"do": "square", "value": 3}


class Marking(Callback):
    """A user's callback, named in an environment variable as Tune documents."""

    folder = Path()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        (self.folder / str(trial)).touch()


@pytest.fixture(scope="class")
def started() -> Iterator[RayTuneEngine]:
    with RayTuneEngine(misbehave, num_workers=1) as engine:
        yield engine


@pytest.mark.slow
class TestRayTuneEngine(EngineContract):
    @pytest.fixture
    def engine(self, started: RayTuneEngine) -> Engine:
        while started.wait():
            pass
        return started

    def test_a_worker_that_dies_takes_only_its_own_job(self, engine: Engine) -> None:
        outcomes = run_all(engine, [{"do": "kill"}, SQUARE])
        assert outcomes[0].failure is not None
        assert outcomes[0].failure.cause == "worker died"
        assert "\n" not in outcomes[0].failure.message
        assert outcomes[1].result is not None

    def test_a_job_that_hangs_is_ended(self, engine: Engine) -> None:
        engine.submit(5, {"do": "hang deaf"}, time_limit=0.5)
        (outcome,) = engine.wait()
        assert outcome.failure is not None
        assert outcome.failure.cause == "timed out"
        assert run_all(engine, [SQUARE])[0].result is not None


SEARCH = [
    "search", "--space", "smoke", "--trials", "2", "--max-train-images", "96", "--max-val-images", "32",
    "--max-test-images", "32", "--image-size", "16", "--supernet-images", "64", "--batch-size", "32", "--workers", "1",
    "--finalists", "0", "--controls", "0", "--device", "cpu",
]  # fmt: skip


@pytest.mark.slow
def test_files_travel_to_and_from_a_cluster(tmp_path: Path, machines: Machines) -> None:
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "train_images.npy", np.arange(1 << 10, dtype=np.uint8))
    weights = [tmp_path / "weights" / f"trial-{number}" for number in range(2)]
    jobs = [
        {"kind": "trial", "data_dir": str(tmp_path / "data"), "number": number, "weights_path": str(path)}
        for number, path in enumerate(weights)
    ]
    with RayTuneEngine(look_around, address=machines.address) as engine:
        assert engine.capacity == 2
        outcomes = run_all(engine, jobs)
        assert [outcomes[number].failure for number in range(2)] == [None, None]
        assert [path.read_text() for path in weights] == ["weights of 0", "weights of 1"]
        assert "weights of" not in "".join(path.read_text() for path in engine._folder.rglob("result.json"))


@pytest.mark.slow
def test_a_plan_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machines: Machines) -> None:
    monkeypatch.chdir(tmp_path)
    cluster = ["--engine", "tune", "--ray-address", machines.address]
    assert main([*SEARCH, *cluster, "--out", "runs/planned", "--dry-run"]) == 0
    assert not (tmp_path / "runs" / "planned").exists()
    assert "TUNE_PRINT_ALL_TRIAL_ERRORS" not in os.environ


def found(run_dir: str) -> list[tuple[int, float, float]]:
    """Returns the number, error and cross-entropy of all trials."""
    trials = RecordedSearch.open(Path(run_dir)).history.in_order
    return [(trial.number, trial.result.error, trial.result.cross_entropy) for trial in trials if trial.result]


@pytest.mark.slow
def test_a_search_has_tune_s_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It finds what a search without Tune finds, in the same way, and prints nothing of Tune's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_TUNE_CALLBACKS", f"{Marking.__module__}.Marking")
    monkeypatch.setattr(Marking, "folder", tmp_path / "marks")
    Marking.folder.mkdir()
    assert main([*SEARCH, "--workers", "0", "--out", "alone"]) == 0
    capfd.readouterr()
    assert main([*SEARCH, "--engine", "tune", "--out", "tune"]) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert "Configuration for experiment" not in printed.out
    assert found("tune") == found("alone")

    experiment = tmp_path / "tune" / EXPERIMENTS / "session-1"
    records = [json.loads(line) for line in Path("tune/records.jsonl").read_text().splitlines()]
    finished = [record for record in records if record["event"] == "finished"]
    errors = [record["result"]["error"] for record in sorted(finished, key=lambda record: record["number"])]
    table = ExperimentAnalysis(str(experiment)).results_df  # type: ignore[no-untyped-call]
    in_order = table.dropna(subset=["error"]).sort_values("config/name")  # else as they ended
    assert [float(error) for error in in_order["error"]] == errors
    trials = sorted(experiment.glob("*-inherited-trial-*"))
    assert len(trials) == len(errors) > 0
    for folder, error in zip(trials, errors, strict=True):
        (line,) = (folder / "result.json").read_text().splitlines()
        assert json.loads(line)["error"] == error
        assert json.loads(line)["config"]["payload"]["kind"] == "inherited trial"
        assert (Marking.folder / folder.name).exists()
    assert not list(experiment.rglob("checkpoint*"))
