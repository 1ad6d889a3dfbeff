"""The report: one page that needs no network, answers in order, and shows nothing that files could smuggle in."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.feasible.feasible_set import FeasibleSet
from tests.counted_spaces import FOUR_STAGES
from tests.trials.planted_search import HOSTILE, write_search
from trials.report.html import LiveReport, ReportInput, write_report
from trials.report.insights import insights_of, label_of
from trials.report.network_drawing import draw_network
from trials.runs.history import read_history
from trials.runs.recorded_search import RecordedSearch
from trials.runs.records import Records
from trials.runs.timeline import read_timeline
from trials.strategies.sret import SReTDomain
from trials.training.error_intervals import error_interval


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> ReportInput:
    search = write_search(tmp_path_factory.mktemp("runs") / "run")
    return ReportInput(search.run_dir, search.history, search.options, search.domain, None, is_running=False)


@pytest.fixture(scope="module")
def page(given: ReportInput) -> str:
    return write_report(given).read_text()


class _Page(HTMLParser):
    """Collects headings, addresses that a browser would load, and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.addresses: list[str] = []
        self.scripts: list[tuple[str, str]] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        if tag == "script":
            self.scripts.append((dict(attrs).get("type") or "", ""))

    def handle_data(self, data: str) -> None:
        if self._inside == "h2":
            self.headings.append(data.strip())
        elif self._inside == "script" and self.scripts:
            kind, text = self.scripts[-1]
            self.scripts[-1] = kind, text + data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


@pytest.mark.slow
def test_it_answers_in_order(page: str) -> None:
    assert _Page(page).headings == [
        "What was asked", "What is recommended", "The front", "The networks", "What matters", "Was it luck?",
        "How it went", "Failures", "The images",
    ]  # fmt: skip


def test_it_needs_no_network_and_is_small(page: str) -> None:
    outside = [address for address in _Page(page).addresses if not address.startswith(("data:", "recommended/"))]
    assert outside == []
    assert len(page.encode()) < 6_000_000


def test_what_files_say_is_shown_and_never_run(page: str) -> None:
    assert HOSTILE not in page
    assert len(_Page(page).scripts) == 3
    assert "&lt;/script&gt;" in page


def test_everything_is_there_for_programs(page: str, given: ReportInput) -> None:
    embedded = next(json.loads(text) for kind, text in _Page(page).scripts if kind == "application/json")
    assert embedded["best"]["trial"] == 0
    assert embedded["recommended"]["networks"][1]["limit"] == 450_000
    finished = [trial for trial in given.history.in_order if trial.result is not None]
    least = min(trial.result.error for trial in finished if trial.result is not None)
    assert min(network["error"] for network in embedded["front"]) == least
    assert {effect["choice"] for effect in embedded["effects"]} >= {"stage 1: recursions 1 to 2"}


def test_the_planted_effect_is_found_with_its_interval_and_the_others_are_none(given: ReportInput) -> None:
    insights = insights_of(given.domain, given.history.in_order, given.options.objectives)
    assert insights is not None
    effects = {label_of(effect, insights.space): effect for effect in insights.effects}
    recursion = effects.pop("stage 1: recursions 1 to 2")
    assert recursion.mean == pytest.approx(-0.05, abs=0.005)
    assert recursion.low < -0.045
    assert recursion.high < -0.04
    assert recursion.is_sure
    assert recursion.cost_ratios[0] > 1
    assert all(abs(effect.mean) < 0.006 for effect in effects.values())
    assert insights.tau > 0.3


def test_what_is_recommended_is_drawn_as_observed_and_as_predicted(given: ReportInput, page: str) -> None:
    text = next(text for kind, text in _Page(page).scripts if text.lstrip().startswith("const figures"))
    figures = json.JSONDecoder().raw_decode(text.lstrip()[len("const figures = ") :])[0]
    traces = {trace["name"]: trace for trace in figures["front"]["data"] if trace["visible"]}
    assert traces["recommended, predicted"]["y"] == [30.0, 30.0]
    low, high = error_interval(0.3, 100, 0.01)  # of 100 validation images; the model's deviation is 1 point
    bars = traces["recommended, predicted"]["error_y"]
    assert (bars["array"][0], bars["arrayminus"][0]) == pytest.approx((100 * high - 30, 30 - 100 * low))
    assert bars["array"][0] > 9, "two deviations of the model alone are 2 points"
    assert traces["recommended, observed"]["x"] == traces["recommended, predicted"]["x"]
    assert "30.00% (21 to 40)" in page
    assert "the luck of 100 validation images" in page


def test_work_is_summed_by_its_kind(given: ReportInput) -> None:
    work = {"trials": 0.5 * 35, "failed trials": 0.25 * 5, "fine-tuning": 2.0, "controls": 4.0}
    assert read_timeline(given.run_dir).work == pytest.approx(work)


def test_breaks_between_sessions_do_not_count(tmp_path: Path) -> None:
    events = [
        {"event": "header", "time": 100.0},
        {"event": "finished", "number": 0, "time": 110.0, "seconds": 9.0},
        {"event": "interrupted", "time": 112.0},
        {"event": "resumed", "time": 1000.0},
        {"event": "finished", "number": 1, "time": 1003.0, "seconds": 2.0},
    ]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    timeline = read_timeline(tmp_path)
    assert timeline.ended == {0: 10.0, 1: 15.0}
    assert (timeline.began, timeline.wall_seconds, timeline.work) == (100.0, 15.0, {"trials": 11.0})


def test_without_trials_it_says_what_is_still_to_come(given: ReportInput, tmp_path: Path) -> None:
    with Records(tmp_path / "new") as records:
        header = {key: value for key, value in given.history.header.items() if key not in ("event", "format", "time")}
        history = records.start(header)
        text = write_report(
            ReportInput(tmp_path / "new", history, given.options, given.domain, None, is_running=True)
        ).read_text()
    assert "Recommendations follow once all trials have ended." in text
    assert "location.reload()" in text
    assert "What matters" not in text


def test_a_scroll_bar_that_appears_late_makes_no_figure_wider_than_the_page(page: str) -> None:
    """Figures take the width of the page when they are drawn, and nothing tells them of a scroll bar."""
    assert re.search(r"html \{[^}]*overflow-y: scroll;", page)


def test_a_live_report_is_written_now_and_then(given: ReportInput, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("trials.report.html.time.monotonic", lambda: now[0])
    path, live = given.run_dir / "report.html", LiveReport()
    path.unlink(missing_ok=True)
    now[0] += 29
    live.refresh(lambda: given)
    assert not path.exists()
    now[0] += 2
    live.refresh(lambda: given)
    assert path.exists()
    path.unlink()
    live.refresh(lambda: given)
    assert not path.exists()


def test_a_drawing_is_to_scale_and_says_what_it_shows() -> None:
    arch = FOUR_STAGES.network([0, 0, 0, 0])
    widest, finest = 2 * max(stage.width for stage in arch.stages), max(arch.resolutions)
    text = draw_network(arch, "a <b>", widest, finest)
    assert "a &lt;b&gt;" in text
    heights = [float(value) for value in re.findall(r'class="block"[^>]*height="([\d.]+)"', text)]
    assert len(heights) == sum(stage.blocks for stage in arch.stages)
    assert heights[-1] / heights[0] == pytest.approx(arch.stages[-1].width / arch.stages[0].width, rel=0.15) or min(
        heights
    ) == pytest.approx(10.0)
    assert math.isclose(max(heights), max(10.0, 96 * arch.stages[-1].width / widest))
    assert f"{arch.stages[0].width} channels" in text


def test_an_interrupted_search_has_not_finished_and_says_how_to_carry_on(given: ReportInput, tmp_path: Path) -> None:
    options = given.options.model_copy(update={"trials": 200})
    history = replace(given.history, recommended=None)
    shutil.copytree(given.run_dir, tmp_path / "run")
    text = write_report(replace(given, run_dir=tmp_path / "run", options=options, history=history)).read_text()
    assert f"ended after {history.num_ended} of 200 trials" in text
    assert f"Nothing before the search has finished: carry on with sret-nas search --resume {tmp_path / 'run'}" in text
    assert "too few trials" not in text


def test_a_search_that_has_tried_every_candidate_has_finished(given: ReportInput, tmp_path: Path) -> None:
    """`runs show` says so as well."""
    options = given.options.model_copy(update={"trials": 200})
    shutil.copytree(given.run_dir, tmp_path / "run")
    space = given.domain.space
    fifth = sorted(cost_of(arch).flops for arch in FeasibleSet(space, Budget()))[4]
    domain = SReTDomain(space, Budget(flops_max=fifth))
    exhausted = replace(given, run_dir=tmp_path / "run", options=options, domain=domain)
    text = write_report(exhausted).read_text()
    assert "finished: every candidate inside the budget has been tried" in text
    assert "of 200" not in text
    search = RecordedSearch(exhausted.run_dir, exhausted.history, options, domain)
    assert search.state == "finished"
    assert ">running</span>" in write_report(replace(exhausted, is_running=True)).read_text()


@pytest.mark.parametrize(
    ("bounds", "is_said"),
    [({"flops_budget": None}, True), ({}, False), ({"flops_budget": None, "params_budget": 10_000}, False)],
)
def test_what_costs_are_shares_of_is_said_where_none_is_bounded(
    bounds: dict[str, Any], is_said: bool, given: ReportInput, tmp_path: Path
) -> None:
    shutil.copytree(given.run_dir, tmp_path / "run")
    options = given.options.model_copy(update=bounds)
    text = write_report(replace(given, run_dir=tmp_path / "run", options=options)).read_text()
    said = "No cost was bounded from above, so the costs are shares of the most expensive trial's."
    assert (said in text) == is_said


@pytest.mark.parametrize("in_finals", ["", "by Ctrl-C", "by a kill"])
def test_a_search_that_was_interrupted_after_its_trials_has_not_finished(
    in_finals: str, given: ReportInput, tmp_path: Path
) -> None:
    """Before it recommends anything, or afterwards, where finalists are trained."""
    shutil.copytree(given.run_dir, tmp_path / "run")
    if in_finals:
        with Records(tmp_path / "run", must_exist=True) as records:
            records.reopen()
            records.finals()
            if in_finals == "by Ctrl-C":
                records.interrupted()
        history = read_history(tmp_path / "run")
    else:
        history = replace(given.history, recommended=None)
    text = write_report(replace(given, run_dir=tmp_path / "run", history=history)).read_text()
    assert ">interrupted</span>" in text
    assert RecordedSearch(tmp_path / "run", history, given.options, given.domain).state == "interrupted"
    said = f"Nothing before the search has finished: carry on with sret-nas search --resume {tmp_path / 'run'}"
    assert (said in text) != bool(in_finals)


def test_a_search_whose_trials_were_lowered_says_how_many_have_finished(given: ReportInput, tmp_path: Path) -> None:
    options = given.options.model_copy(update={"trials": 3})
    shutil.copytree(given.run_dir, tmp_path / "run")
    text = write_report(replace(given, run_dir=tmp_path / "run", options=options)).read_text()
    assert given.history.num_ended > 3
    shown = re.search(r"<b>([^<]*)</b>\s*<span>trials that finished", text)
    assert shown is not None
    assert re.fullmatch(r"\d+", shown[1])
