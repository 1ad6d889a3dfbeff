"""The front as a table on the terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from tests.trials.planted_search import write_search
from trials.report.front import show_front
from trials.runs.recommendation import BestBy


@pytest.mark.parametrize("best_by", ["expected", "proxy"])
def test_the_star_is_explained_where_there_is_one(
    best_by: BestBy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = write_search(tmp_path / "run", no_supernet=True, best_by=best_by)
    trials = search.history.in_order
    for trial in trials:
        trial.finals.clear()  # or the best one is chosen among the fine-tuned ones
    recommended = search.history.recommended
    show_front(trials, search.options, search.run_dir, 64, Console(width=100), recommended=recommended)
    text = capsys.readouterr().out
    starred = re.findall(r"\b\d+\*", text)
    assert len(starred) == (best_by == "proxy")
    assert ("* most accurate: best.yaml" in text) == (best_by == "proxy")
