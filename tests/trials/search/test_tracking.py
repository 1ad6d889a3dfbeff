"""Experiment trackers follow a search, and never end one."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sret_nas.errors import UserError
from sret_nas.space.chain import chain_of
from tests.trials.planted_search import write_search
from trials.integrations import trackers
from trials.runs.recorded_search import RecordedSearch
from trials.search.tracking import Tracking, _most_flops


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> RecordedSearch:
    return write_search(tmp_path_factory.mktemp("tracked") / "run")


def follow(search: RecordedSearch, run_dir: Path, log: tuple[str, ...] = (), numbers: range = range(40)) -> str:
    """Tracks some trials of a search, then its end, and returns what the user sees."""
    run_dir.mkdir(exist_ok=True)
    (run_dir / "best.yaml").write_text("network: best\n")
    (run_dir / "recommended").mkdir(exist_ok=True)
    (run_dir / "recommended" / "1M.yaml").write_text("network: 1M\n")
    printed = io.StringIO()
    options = search.options.with_given({"log": log}, "test")
    tracking = Tracking(run_dir, options, chain_of(search.domain.space), Console(file=printed, width=500))
    for number in numbers:
        tracking.trial_ended(search.history.trials[number])
    tracking.finish(search.history.in_order, is_complete=True)
    return printed.getvalue()


def scalars(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns what TensorBoard reads: (step, value) by tag."""
    from tensorboardX.event_file_writer import event_pb2  # type: ignore[import-untyped]

    found: dict[str, list[tuple[int, float]]] = {}
    (path,) = (run_dir / "tensorboard").glob("events.*")
    content = path.read_bytes()
    while content:
        length = int.from_bytes(content[:8], "little")
        event = event_pb2.Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_gets_trials_finals_and_the_hypervolume(search: RecordedSearch, tmp_path: Path) -> None:
    assert follow(search, tmp_path / "run") == ""
    (tmp_path / "run" / "tensorboard" / "notes.txt").write_text("dear")
    assert follow(search, tmp_path / "run") == ""  # a resumed search writes them anew
    assert (tmp_path / "run" / "tensorboard" / "notes.txt").read_text() == "dear"
    found = scalars(tmp_path / "run")
    results = {trial.number: trial.result for trial in search.history.in_order if trial.result is not None}
    assert found["trial/error"] == [(number, pytest.approx(result.error)) for number, result in results.items()]
    assert [step for step, value in found["trial/failed"] if value == 1] == list(range(35, 40))
    assert found["final/fine_tuned_test_error"] == [(0, pytest.approx(0.21))]
    volumes = [value for _, value in found["search/hypervolume"]]
    assert volumes == sorted(volumes)
    assert 0 < volumes[0] < volumes[-1]
    assert found["search/best_error"][-1][1] == pytest.approx(min(result.error for result in results.values()))


@pytest.mark.slow
def test_tensorboard_does_not_bring_torch_into_a_driver(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from trials.integrations.trackers import TensorBoardTracker; "
        "tracker = TensorBoardTracker(Path(sys.argv[1])); tracker.log({'error': 0.5}, 1, 0.0); "
        "tracker.finish([], is_complete=True); print('torch' in sys.modules); import torch"
    )
    said = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
    assert said == "False\n"
    assert list((tmp_path / "tensorboard").iterdir())


def test_without_a_budget_no_network_lies_beyond_the_hypervolume(search: RecordedSearch) -> None:
    most = max(result.target.flops for trial in search.history.in_order if (result := trial.result) is not None)
    assert most <= _most_flops(chain_of(search.domain.space)) < 100 * most


class Failing(trackers.Tracker):
    name = "mlflow"
    run_id = "1"

    def log(self, metrics: object, step: int, seconds: float) -> None:
        raise ConnectionError("the server\nwent away")

    def finish(self, files: object, *, is_complete: bool) -> None:
        raise AssertionError("it was dropped")


def test_a_tracker_that_fails_costs_one_line(
    search: RecordedSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trials.search.tracking.open_tracker", lambda *_: Failing())
    printed = follow(search, tmp_path / "run", ("mlflow",))
    assert printed.startswith("warning: mlflow gets nothing more of this search (ConnectionError: the server);")
    assert printed.count("\n") == 1
    assert len(scalars(tmp_path / "run")["trial/error"]) == 35


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trials.integrations.trackers.find_spec", lambda _: None)
    with pytest.raises(
        UserError, match=r"^--log wandb needs wandb, which is not installed: pip install -e '.\[wandb\]'"
    ):
        trackers.require_trackers(["wandb"])
    trackers.require_trackers([])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow and its database
def test_mlflow_gets_everything_and_a_resumed_search_goes_on_with_its_run(
    search: RecordedSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is an extra: pip install -e '.[mlflow]'")
    pytest.importorskip("alembic", reason="mlflow-skinny has no database")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_dir = tmp_path / "run"
    assert follow(search, run_dir, ("mlflow",), range(20)) == ""
    assert follow(search, run_dir, ("mlflow",)) == ""
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{run_dir / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("sret-nas").experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params["flops_budget"] == "900000"
    history = client.get_metric_history(run.info.run_id, "trial/error")
    assert sorted(point.step for point in history) == list(range(35))
    assert run.data.metrics["final/control_test_error"] == 0.29
    names = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    assert names == {"best.yaml", "recommended"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_writes_a_run_offline(search: RecordedSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="Weights & Biases is an extra: pip install -e '.[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run_dir = tmp_path / "run"
    assert follow(search, run_dir, ("wandb",), range(20)) == ""
    assert follow(search, run_dir, ("wandb",)) == ""
    first, *rest = (run_dir / "logged-wandb.txt").read_text().splitlines()
    assert len(rest) == len(set(rest)) == 40 + 6
    files = list((run_dir / "wandb").glob(f"offline-run-*-{first}/run-{first}.wandb"))
    assert files
    assert all(b"trial/error" in path.read_bytes() for path in files)
