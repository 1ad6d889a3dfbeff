"""`runs show --json`: the numbers that the tables have, as plain data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli import main
from sret_nas.arch.cost import cost_of
from sret_nas.yaml_files import read_yaml
from tests.trials.planted_search import NUM_TRIALS, planted, trial_result, write_search
from trials.report.outputs import write_outputs
from trials.runs.objectives import pareto_front
from trials.runs.recommendation import ORIGIN
from trials.runs.recorded_search import RecordedSearch
from trials.runs.records import Records

Capture = pytest.CaptureFixture[str]


def shown(run_dir: Path, capsys: Capture) -> dict[str, Any]:
    assert main(["runs", "show", str(run_dir), "--json"]) == 0
    plain: dict[str, Any] = json.loads(capsys.readouterr().out)
    return plain


def test_the_front_has_the_numbers_of_its_trials_and_their_files(tmp_path: Path, capsys: Capture) -> None:
    search = write_search(tmp_path / "run")
    front = pareto_front(search.history.in_order, search.options.objectives)
    rows = shown(search.run_dir, capsys)["front"]
    for row, trial in zip(rows, front, strict=True):
        cost, is_tuned = cost_of(trial.arch), trial.number == 0
        assert row == {
            "number": trial.number,
            "arch_id": trial.arch_id,
            "flops": cost.flops,
            "params": cost.params,
            "error": planted(trial.candidate),
            "fine_tuned_error": 0.2 if is_tuned else None,
            "test_error": 0.21 if is_tuned else None,
            "file": None,
        }
    write_outputs(search.run_dir, search.history, search.options)
    for row in shown(search.run_dir, capsys)["front"]:
        assert read_yaml(Path(row["file"]))["arch_id"] == row["arch_id"]


def test_recommended_networks_that_were_evaluated_come_on_top_of_the_trials(tmp_path: Path, capsys: Capture) -> None:
    search = write_search(tmp_path / "run", num_failed=0)
    tried = {trial.key for trial in search.history.in_order}
    candidate = next(candidate for candidate in search.domain if candidate.key not in tried)
    cost = cost_of(candidate.arch)
    with Records(search.run_dir, must_exist=True) as records:
        records.reopen()
        records.asked(NUM_TRIALS, candidate, cost.flops, cost.params, origin=ORIGIN)
        records.ended(NUM_TRIALS, trial_result(candidate), None, 0.5)
    assert len(RecordedSearch.open(search.run_dir).history.trials) == NUM_TRIALS + 1
    summary = shown(search.run_dir, capsys)
    assert (summary["finished"], summary["recommended_finished"]) == (NUM_TRIALS, 1)
    assert summary["trials"] == NUM_TRIALS
