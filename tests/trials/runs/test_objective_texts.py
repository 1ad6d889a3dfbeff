"""Every objective is shown, with its name and unit, wherever a search shows its objectives."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import pytest
from rich.console import Console

from sret_nas.space.chain import chain_of
from tests.trials.planted_search import write_search
from tests.trials.search.test_tracking import scalars
from trials.engines.results import TrialResult
from trials.report.figures import front_figure, predictions_figure
from trials.report.insights import insights_of, quality_over_trials
from trials.report.outputs import _metrics, _table
from trials.report.plot import write_front_plot
from trials.report.progress import SearchProgress, describe_trial
from trials.report.runs import Comparison, RunSummary, _points, runs_table
from trials.runs.compute_budget import ComputeBudget, ComputeUsage
from trials.runs.objective_texts import TEXTS, metrics_of
from trials.runs.objectives import Objective, pareto_front
from trials.runs.recorded_search import RecordedSearch
from trials.runs.timeline import read_timeline
from trials.runs.trial import Trial
from trials.search.api import SearchResult
from trials.search.tracking import Tracking

OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

VALUES: dict[Objective, tuple[float, str]] = {
    "error": (0.25, "error 25.00%"),
    "cross_entropy": (0.5, "cross-entropy 0.5000 nats"),
    "depth_error": (0.375, "mean error 37.50%"),
    "flops": (79_340_000, "79.34M FLOPs"),
    "params": (503_100, "503.1K params"),
    "latency": (20_500, "20.5ms"),
}
"""A value of each objective, and how it is written."""


def a_trial(search: RecordedSearch) -> Trial:
    """Returns a trial with the values above."""
    trial = search.history.trials[0]
    result = trial.result
    assert result is not None
    target = result.target.model_copy(update={"flops": 79_340_000, "params": 503_100, "latency_us": 20_500})
    changed = {"error": 0.25, "cross_entropy": 0.5, "error_by_depth": [0.5, 0.25], "target": target}
    return Trial(0, trial.candidate, result=result.model_copy(update=changed))


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RecordedSearch]:
    """Searches on disk by the error that they minimise."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        error: write_search(folder / error, objectives=[error, "flops"], best_by="proxy")
        for error in ("error", "depth_error")
    }


def test_every_objective_has_a_text() -> None:
    assert set(TEXTS) == set(OBJECTIVES) == set(VALUES)
    assert len({text.metric for text in TEXTS.values()}) == len(TEXTS)


def test_trackers_and_programs_know_objectives_by_names_that_stay() -> None:
    """Dashboards and scripts of users read these names."""
    assert {objective: text.metric for objective, text in TEXTS.items()} == {
        "error": "error", "cross_entropy": "cross_entropy", "depth_error": "depth_error",
        "flops": "flops", "params": "params", "latency": "latency_ms",
    }  # fmt: skip


def test_titles_of_errors_say_that_they_are_of_validation_images() -> None:
    titles = [TEXTS[objective].title for objective in ("error", "cross_entropy", "depth_error")]
    assert titles == [
        "validation error", "validation cross-entropy", "mean validation error over its recursion depths"
    ]  # fmt: skip
    assert [TEXTS[objective].title for objective in ("flops", "params", "latency")] == [
        "FLOPs", "parameters", "predicted latency"
    ]  # fmt: skip


def test_axes_say_that_errors_are_of_the_proxy() -> None:
    titles = [TEXTS[objective].proxy_title for objective in ("error", "cross_entropy", "depth_error")]
    assert titles == [
        "error of the proxy", "cross-entropy of the proxy", "mean error of the proxy over its recursion depths"
    ]  # fmt: skip


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_is_written_with_name_and_unit_in_the_line_of_a_trial(
    objective: Objective, searches: dict[str, RecordedSearch]
) -> None:
    value, text = VALUES[objective]
    assert TEXTS[objective].write(value) == text
    line = describe_trial(a_trial(searches["error"]), (objective, "flops"))
    assert f" {text}," in line


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_trackers_and_the_table_of_trials_have_it(
    objective: Objective, searches: dict[str, RecordedSearch], tmp_path: Path
) -> None:
    search = searches["depth_error" if objective == "depth_error" else "error"]
    trial, value = a_trial(search), VALUES[objective][0]
    logged = value / 1000 if objective == "latency" else value
    options = search.options.model_copy(update={"objectives": ("error", objective), "log": ()})
    tracking = Tracking(tmp_path, options, chain_of(search.domain.space), Console(file=io.StringIO()))
    tracking.trial_ended(trial)
    tracking.finish([], is_complete=True)
    found = scalars(tmp_path)
    assert found[f"trial/{TEXTS[objective].metric}"] == [(0, pytest.approx(logged))]
    compared = "depth_error" if objective == "depth_error" else "error"
    assert found[f"search/best_{compared}"] == [(0, pytest.approx(VALUES[compared][0]))]
    (row,) = csv.DictReader(io.StringIO(_table([trial], None, options.objectives)))
    assert float(row["latency_us" if objective == "latency" else objective]) == pytest.approx(value)


def test_a_mean_that_is_no_objective_is_not_claimed(searches: dict[str, RecordedSearch]) -> None:
    """Other searches score shallower depths on fewer images."""
    result = a_trial(searches["error"]).result
    assert result is not None
    assert "depth_error" not in metrics_of(result, ("error", "flops"))
    assert metrics_of(result, ("depth_error", "flops"))["depth_error"] == 0.375


@pytest.mark.parametrize("error", ["error", "depth_error"])
def test_the_bar_names_the_error_that_is_minimised(error: Objective) -> None:
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=True)
    budget = ComputeBudget(ComputeUsage(), expected=1.0, time_budget=None, gpu_hours=None, gpus_per_trial=1.0)
    with SearchProgress(console, 7, 3, 0.375, budget, (error, "flops")):
        pass
    assert f"best {TEXTS[error].word} 37.5%" in text.getvalue()


@pytest.mark.parametrize("error", ["error", "depth_error"])
def test_a_stopped_trial_s_line_has_the_error_that_is_minimised(
    error: Objective, searches: dict[str, RecordedSearch]
) -> None:
    trial = a_trial(searches["error"])
    stopped = Trial(0, trial.candidate)
    stopped._partial, stopped.is_stopped = [trial._result], True  # type: ignore[list-item]
    assert describe_trial(stopped, (error,)).endswith(f": {VALUES[error][1]}")


def mean_of(search: RecordedSearch, error: Objective) -> dict[int, float]:
    """Returns the error that a search compares by, of each trial, by number: worked out from its results."""

    def value(result: TrialResult) -> float:
        return fmean(result.error_by_depth) if error == "depth_error" else result.error

    return {trial.number: value(trial.result) for trial in search.history.in_order if trial.result is not None}


@pytest.mark.parametrize("error", ["error", "depth_error"])
def test_pictures_show_the_error_that_is_minimised(
    error: Objective, searches: dict[str, RecordedSearch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = searches[error]
    trials, options, known = search.history.in_order, search.options, search.history.recommended
    expected, front = mean_of(search, error), pareto_front(trials, options.objectives)
    figure = front_figure(trials, front, front[0], options, known)
    (line,) = [trace for trace in figure["data"] if trace["name"] == "Pareto-optimal" and trace["visible"]]
    assert list(line["y"]) == pytest.approx([100 * expected[trial.number] for trial in front], abs=1e-3)
    assert line["mode"] == "lines+markers"
    assert figure["layout"]["yaxis"]["title"]["text"] == f"{TEXTS[error].proxy_title}, %"
    assert ("mean validation error" in line["text"][0]) == (error == "depth_error")
    insights = insights_of(search.domain, trials, options.objectives)
    assert insights is not None
    assert predictions_figure(insights)["layout"]["yaxis"]["title"]["text"] == f"observed {TEXTS[error].word}, %"
    least = options.model_copy(update={"objectives": (error,)})
    name, steps = quality_over_trials(trials, read_timeline(search.run_dir), least)
    assert name == f"least {TEXTS[error].title}, %"
    assert steps[-1][2] == pytest.approx(100 * min(expected.values()))
    drawn: list[Any] = []
    monkeypatch.setattr("trials.report.plot.png_of", lambda figure: drawn.append(figure) or b"")
    header = {"space": {"name": "s", "image_size": 64, "classes": 10}, "data": {"classes": 2}}
    write_front_plot(tmp_path / "front.png", trials, front, front[0], options, header, known)
    axes = drawn[0].axes[0]
    assert axes.get_ylabel().startswith(f"{TEXTS[error].proxy_title}, %")
    (step,) = [drawn_line for drawn_line in axes.lines if len(drawn_line.get_ydata()) == len(front)]
    assert list(step.get_ydata()) == pytest.approx([100 * expected[trial.number] for trial in front])


@pytest.mark.parametrize("error", ["error", "depth_error"])
def test_lists_and_comparisons_of_runs_say_which_error_they_have(
    error: Objective, searches: dict[str, RecordedSearch]
) -> None:
    search = searches[error]
    expected = mean_of(search, error)
    summary = RunSummary.of(search)
    best = expected[0]  # the only fine-tuned one
    assert (summary.error_name, summary.best_error) == (error, pytest.approx(best))
    text = io.StringIO()
    Console(file=text, width=200).print(runs_table([summary], 120))
    assert (re.search(r"\bmean\b", text.getvalue()) is not None) == (error == "depth_error")
    assert _points(search.history.in_order, "flops", error)[:, 0].tolist() == pytest.approx(list(expected.values()))
    comparison = Comparison.of([search, search], "flops")
    assert comparison.error_name == error
    assert comparison.errors[0][0] == pytest.approx(min(expected.values()))
    assert TEXTS[error].title in str(comparison.tables(120)[0].title)
    assert Comparison.of(list(searches.values()), "flops").error_name == "error"


@pytest.mark.parametrize("error", ["error", "depth_error"])
def test_results_have_it(error: Objective, searches: dict[str, RecordedSearch]) -> None:
    search = searches[error]
    best = SearchResult.open(search.run_dir).best
    expected = mean_of(search, "depth_error")
    assert best.depth_error == (pytest.approx(expected[0]) if error == "depth_error" else None)
    (trial,) = [trial for trial in search.history.in_order if trial.arch_id == best.arch.arch_id]
    written = _metrics(trial, search.history.header)
    assert written.get("validation_depth_error") == best.depth_error
