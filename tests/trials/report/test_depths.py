"""What people see of a network's depths: FLOPs and errors of each, where a search asked for them."""

from __future__ import annotations

import io
import re
from statistics import fmean

import pytest
from rich.console import Console

from sret_nas.arch.cost import cost_of
from sret_nas.quantities import format_quantity
from tests.trials.planted_search import planted, write_search
from trials.report.depths import depth_cells, depth_points, operating_points
from trials.report.front import show_front
from trials.report.html import ReportInput, write_report
from trials.report.insights import insights_of
from trials.runs.best import choose_best
from trials.runs.objectives import pareto_front
from trials.runs.recorded_search import RecordedSearch


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> RecordedSearch:
    """Returns a search whose best network recurs twice at most."""
    found = write_search(tmp_path_factory.mktemp("runs") / "run", objectives=["depth_error", "flops"], best_by="proxy")
    trial = found.history.trials[0]
    assert trial.arch.max_recursions == 2, "or there is nothing to see"
    tuned = trial.finals["fine-tuned"]
    trial.finals["fine-tuned"] = tuned.model_copy(
        update={"error_by_depth": [0.3, 0.2], "test_error_by_depth": [0.31, tuned.test_error]}
    )
    return found


def test_a_depth_has_the_flops_of_the_network_with_so_many_recursions(search: RecordedSearch) -> None:
    trial = search.history.trials[0]
    shallow, full = depth_points(trial)
    assert (shallow.recursions, full.recursions) == (1, 2)
    assert (shallow.flops, full.flops) == (cost_of(trial.arch.with_max_recursions(1)).flops, cost_of(trial.arch).flops)
    assert shallow.flops < full.flops
    error = planted(trial.candidate)
    assert (shallow.error, full.error) == pytest.approx((error + 0.2, error))
    assert (shallow.tuned_error, shallow.test_error, full.test_error) == (0.3, 0.31, 0.21)
    assert depth_cells(full)[2:] == (f"{error:.2%}", "20.00%", "21.00%")


def test_depths_that_were_not_trained_are_not_shown(search: RecordedSearch) -> None:
    trial, plain = search.history.trials[0], search.options.model_copy(update={"objectives": ("error", "flops")})
    assert operating_points(trial, search.options) == depth_points(trial)
    assert operating_points(trial, plain) == []


@pytest.mark.parametrize("width", [50, 80, 120])
def test_the_tables_show_the_mean_and_every_depth_in_any_width(search: RecordedSearch, width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    trials = search.history.in_order
    show_front(trials, search.options, search.run_dir, 64, console, recommended=search.history.recommended)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    tables = [line for line in text.splitlines() if line and line[0] in "│┃┏└"]
    assert max(map(len, tables)) <= width
    assert "…" not in text
    cheapest = pareto_front(trials, search.options.objectives)[0]
    assert cheapest.result is not None
    mean = f"{fmean(cheapest.result.error_by_depth):.2%}"
    assert any(re.match(rf"│ +{cheapest.number} │.* {mean} ", line) for line in tables)
    best, _ = choose_best(trials, search.options.objectives, "proxy", None)
    for point in depth_points(best):
        cells = (str(point.recursions), format_quantity(point.flops), f"{point.error:.2%}")
        assert any(all(cell in line for cell in cells) for line in tables)


@pytest.mark.slow
def test_the_page_shows_them_and_its_model_is_of_the_mean(search: RecordedSearch) -> None:
    given = ReportInput(search.run_dir, search.history, search.options, search.domain, None, is_running=False)
    page = write_report(given).read_text()
    assert "Every depth of these networks" in page
    assert "mean of<br>depths" in page
    trial = search.history.trials[0]
    for cell in depth_cells(depth_points(trial)[0]):
        assert f"<td>{cell}</td>" in page
    insights = insights_of(search.domain, search.history.in_order, search.options.objectives)
    assert insights is not None
    results = [trial.result for trial in search.history.in_order if trial.result is not None]
    assert insights.observed.tolist() == [fmean(result.error_by_depth) for result in results]
