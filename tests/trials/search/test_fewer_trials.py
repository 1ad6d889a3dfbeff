"""Searches say how many trials there are: of those asked for, of those that ended, and of those the budget has."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.yaml_files import dump_yaml
from tests.counted_spaces import FOUR_STAGES
from tests.trials.planted_search import write_search
from tests.trials.search.smoke_searches import OPTIONS, quiet
from trials.runs.options import SearchOptions
from trials.runs.recorded_search import MAX_COUNTED, num_possible
from trials.search.search import describe_progress, resume_search, start_search
from trials.strategies.sret import SReTDomain


@pytest.mark.parametrize(
    ("ended", "trials", "line"),
    [
        (0, 8, "Resuming run: 0 of 8 trials have ended."),
        (1, 1, "Resuming run: 1 of 1 trial has ended."),
        (31, 31, "Resuming run: 31 of 31 trials have ended."),
        (31, 3, "Resuming run: 31 trials have ended already, more than --trials 3: none is added"),
    ],
)
def test_more_than_was_asked_for_is_no_share_of_it(ended: int, trials: int, line: str) -> None:
    assert describe_progress(Path("run"), ended, trials) == line


@pytest.mark.slow
def test_no_more_trials_are_planned_than_there_are_candidates(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(dump_yaml(FOUR_STAGES.to_dict()))
    second = sorted(cost_of(arch).flops for arch in FeasibleSet(FOUR_STAGES, Budget()))[1]
    options = {
        **OPTIONS,
        "target_classes": 10,
        "space": str(tmp_path / "space.yaml"),
        "flops_budget": second,
        "trials": 5,
    }
    console = quiet()
    run = start_search(SearchOptions.parse(options, "search"), tmp_path / "run", ["test"], console)
    text = printed(console)
    assert "note: 2 candidates lie inside the budget, fewer than --trials 5" in text
    assert "Plan: 2 trials of 128 training images" in text
    assert "Every candidate inside the budget has been tried (2 in all)." in text
    console = quiet()
    resume_search(run.run_dir, {"trials": 7}, console)
    text = printed(console)
    assert "2 of 7 trials have ended." in text
    assert "Plan:" not in text
    assert "Every candidate inside the budget has been tried (2 in all)." in text


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(("tried", "most", "possible"), [(0, 5, 2), (0, 1, 1), (0, 2, 2), (0, 0, 0), (40, 3, 0)])
def test_candidates_are_counted_as_far_as_trials_need_them(
    tried: int, most: int, possible: int, tmp_path: Path
) -> None:
    second = sorted(cost_of(arch).flops for arch in FeasibleSet(FOUR_STAGES, Budget()))[1]
    history = write_search(tmp_path / "run").history if tried else None
    assert num_possible(SReTDomain(FOUR_STAGES, Budget(flops_max=second)), most, history) == possible


def test_of_many_candidates_few_are_counted() -> None:
    assert num_possible(SReTDomain(FOUR_STAGES, Budget()), -1) == 0
    assert FOUR_STAGES.num_networks > MAX_COUNTED
    assert num_possible(SReTDomain(FOUR_STAGES, Budget()), 10**6) == 10**6, "though there are fewer"
