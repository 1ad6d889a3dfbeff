"""What a search leaves behind that was interrupted at an awkward moment."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from trials.runs.options import SearchOptions
from trials.runs.recorded_search import RecordedSearch
from trials.runs.trial import Trial
from trials.search.search import resume_search, start_search

OPTIONS: dict[str, Any] = {
    "space": "smoke",
    "no_supernet": True,
    "strategy": "random",
    "flops_budget": 100_000_000,
    "trials": 4,
    "train_images": 128,
    "max_train_images": 64,
    "max_val_images": 100,
    "max_test_images": 100,
    "image_size": 24,
    "workers": 0,
    "device": "cpu",
}


def test_a_result_whose_recording_was_interrupted_is_in_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes when the line of the second result is on disk, and the trial in memory does not have it yet."""
    apply, results = Trial.apply, list[int]()

    def interrupted(trial: Trial, event: Any) -> None:
        results.append(trial.number)
        if len(results) == 2:
            raise KeyboardInterrupt
        apply(trial, event)

    monkeypatch.setattr(Trial, "apply", interrupted)
    options = SearchOptions.parse(OPTIONS, "search")
    with pytest.raises(KeyboardInterrupt):
        start_search(options, tmp_path / "run", ["test"], Console(file=io.StringIO()))
    with (tmp_path / "run" / "trials.csv").open() as file:
        written = [int(row["trial"]) for row in csv.DictReader(file) if row["state"] == "finished"]
    assert written == results[:2] != []


@pytest.mark.parametrize("crashes_in", ["measure_front", "write_results"])
def test_a_search_that_was_killed_after_its_trials_has_not_finished_until_it_is_resumed(
    crashes_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash leaves the records that a kill does."""

    def crash(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    console = Console(file=io.StringIO())
    options = SearchOptions.parse(OPTIONS, "search")
    with monkeypatch.context() as patch:
        patch.setattr(f"trials.search.search.{crashes_in}", crash)
        with pytest.raises(ZeroDivisionError):
            start_search(options, tmp_path / "run", ["test"], console)
    assert RecordedSearch.open(tmp_path / "run").state == "interrupted"
    resume_search(tmp_path / "run", {}, console)
    assert RecordedSearch.open(tmp_path / "run").state == "finished"
    assert ">finished<" in (tmp_path / "run" / "report.html").read_text()
