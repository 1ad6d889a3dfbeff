"""Bad networks do not flatten the pictures: the axis ends before them, and marks at its edge show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trials.planted_search import write_search
from trials.report.error_axis import MARGIN, end_of_axis
from trials.report.figures import front_figure
from trials.report.plot import write_front_plot
from trials.runs.objectives import pareto_front
from trials.runs.recorded_search import RecordedSearch

BAD = 0.95


@pytest.mark.parametrize(
    ("seen", "others", "end"),
    [
        ([1.0, 2.0], [2.0, 3.0], None),
        ([1.0, 2.0], [2.0] * 20 + [60.0], MARGIN * 2.0),
        ([1.0, 8.0], [2.0] * 20 + [60.0], MARGIN * 8.0),
        ([1.0, 2.0], [2.0] * 10 + [60.0] * 10, None),  # half of all networks are no exception
        ([40.0], [], None),
        ([], [1.0], None),
    ],
)
def test_the_axis_ends_above_what_has_to_be_seen(seen: list[float], others: list[float], end: float | None) -> None:
    assert end_of_axis(seen, others) == (None if end is None else pytest.approx(end))


@pytest.fixture
def search(tmp_path: Path) -> RecordedSearch:
    """Returns a search in which a random control and a trial that is not recommended hardly learned."""
    search = write_search(tmp_path / "run")
    trials = search.history.in_order
    front = {trial.number for trial in pareto_front(trials, search.options.objectives)}
    poor = next(trial for trial in trials[2:] if trial.result is not None and trial.number not in front)
    assert poor.result is not None
    poor.result = poor.result.model_copy(update={"error": BAD})
    control = trials[0].finals["control"]
    trials[0].finals["control"] = control.model_copy(update={"test_error": BAD})
    return search


def test_the_report_moves_them_to_the_edge_and_tells_their_errors(search: RecordedSearch) -> None:
    trials, options = search.history.in_order, search.options
    front = pareto_front(trials, options.objectives)
    figure = front_figure(trials, front, front[0], options, search.history.recommended)
    low, end = figure["layout"]["yaxis"]["range"]
    assert 0 <= low < end < 70
    for name in ("tried", "random control, test"):
        trace = next(trace for trace in figure["data"] if trace["name"] == name)
        edge = [index for index, symbol in enumerate(trace["marker"]["symbol"]) if symbol == "triangle-up"]
        assert [trace["y"][index] for index in edge] == [end]
        assert "95.00%" in trace["text"][edge[0]]
    line = next(trace for trace in figure["data"] if trace["name"] == "Pareto-optimal")
    assert max(line["y"]) < end


def test_the_picture_marks_them_at_its_edge(
    search: RecordedSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("trials.report.plot.png_of", lambda figure: drawn.append(figure) or b"")  # type: ignore[func-returns-value]
    trials, options = search.history.in_order, search.options
    front = pareto_front(trials, options.objectives)
    header = {"space": {"name": "s", "image_size": 64, "classes": 10}, "data": {"classes": 2}}
    write_front_plot(tmp_path / "f.png", trials, front, front[0], options, header, search.history.recommended)
    for axes in drawn[0].axes:
        (marks,) = [points for points in axes.collections if points.get_label() == "error above the picture"]
        end = axes.get_ylim()[1]
        assert end < 70
        assert [y for _, y in marks.get_offsets()] == [pytest.approx(end)]
