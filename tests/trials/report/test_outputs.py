"""What the YAML files of a search say of its networks."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from sret_nas.arch.cost import cost_of
from sret_nas.yaml_files import read_yaml
from tests.trials.planted_search import planted_by_depth, write_search
from trials.report.outputs import write_outputs
from trials.runs.recorded_search import RecordedSearch
from trials.runs.trial import Trial


def metrics_of(search: RecordedSearch) -> dict[str, Any]:
    """Returns the metrics in `best.yaml`."""
    write_outputs(search.run_dir, search.history, search.options)
    metrics: dict[str, Any] = read_yaml(search.run_dir / "best.yaml")["metrics"]
    return metrics


def test_depths_have_no_place_in_the_files_of_a_search_for_the_full_one(tmp_path: Path) -> None:
    metrics = metrics_of(write_search(tmp_path / "run"))
    assert [key for key in metrics if key.endswith("_by_depth")] == []
    for final in metrics["final"].values():
        assert [key for key in final if key.endswith("_by_depth")] == []


def test_a_search_for_all_depths_has_flops_and_error_of_each(tmp_path: Path) -> None:
    search = write_search(tmp_path / "run", objectives=["depth_error", "flops"])
    trial = search.history.trials[0]  # the best one
    depths = range(1, trial.arch.max_recursions + 1)
    metrics = metrics_of(search)
    assert len(depths) == 2, "or there is nothing to see"
    assert metrics["validation_error_by_depth"] == planted_by_depth(trial.candidate)
    assert metrics["flops_by_depth"] == [cost_of(trial.arch.with_max_recursions(depth)).flops for depth in depths]


@pytest.mark.parametrize("objective", ["error", "depth_error"])
def test_a_network_without_recursion_has_its_one_depth_or_none(objective: str, tmp_path: Path) -> None:
    search = write_search(tmp_path / "run", objectives=[objective, "flops"], no_supernet=True, best_by="proxy")
    shallow = next(trial for trial in search.history.in_order if trial.arch.max_recursions == 1)
    search.history.trials = {shallow.number: shallow}
    search.history.recommended = None
    metrics = metrics_of(search)
    known = {key: value for key, value in metrics.items() if key.endswith("_by_depth")}
    expected = {
        "validation_error_by_depth": planted_by_depth(shallow.candidate),
        "flops_by_depth": [cost_of(shallow.arch).flops],
    }
    assert known == (expected if objective == "depth_error" else {})


def test_files_of_networks_that_left_are_deleted_and_those_of_a_user_stay(tmp_path: Path) -> None:
    search = write_search(tmp_path / "run")
    write_outputs(search.run_dir, search.history, search.options)
    folders = {name: search.run_dir / name for name in ("pareto", "recommended", "weights")}
    folders["weights"].mkdir(exist_ok=True)
    before = set(search.run_dir.rglob("*.yaml"))
    copy = next(folders["recommended"].iterdir()).name.replace(".yaml", " copy.yaml")
    kept = {folder / name for folder in folders.values() for name in ("notes.yaml", copy, "mine-0123456789ab.yaml")}
    stale = {
        folders["pareto"] / "trial-0099-0123456789ab.yaml",
        folders["weights"] / "trial-0099.yaml",
        *(folders["recommended"] / f"{label}-0123456789ab.yaml" for label in ("75M-FLOPs", "1.5M-params", "12.5ms")),
        *(folders["recommended"] / f"{label}-0123456789ab.yaml" for label in ("750-FLOPs", "3us", "2s")),
    }
    for path in kept | stale:
        path.write_text("dear")
    write_outputs(search.run_dir, search.history, search.options)
    assert set(search.run_dir.rglob("*.yaml")) == before | kept


def test_a_trial_that_an_interrupted_search_left_does_not_run(tmp_path: Path) -> None:
    search = write_search(tmp_path / "run")
    left = search.history.trials[7]
    search.history.trials[7] = Trial(left.number, left.candidate, left.origin)
    write_outputs(search.run_dir, search.history, search.options)
    rows = list(csv.DictReader((search.run_dir / "trials.csv").read_text().splitlines()))
    assert [row["trial"] for row in rows if row["state"] == "waiting"] == ["7"]
    assert {row["state"] for row in rows} == {"finished", "failed", "waiting"}
