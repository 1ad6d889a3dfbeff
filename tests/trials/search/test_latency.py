"""Searches over latency: what is predicted before a trial exists bounds it, and what was recorded is what resumes."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from cli import main
from sret_nas import Budget, BudgetError, UserError
from sret_nas.latency.fast_set import LatencySet
from sret_nas.latency.table import LatencyTable, parts_of
from tests.latency_profiles import SMALL, pretended_profile
from trials.engines.inline import InlineEngine
from trials.report.front import show_front
from trials.runs.directory import RECORDS_FILE
from trials.runs.history import read_history
from trials.runs.objectives import archived, objective_values, pareto_front
from trials.runs.options import SearchOptions
from trials.search import latency_profile as latency
from trials.search.latency_profile import PROFILES, LatencyTimer, latency_profile
from trials.search.run import Run
from trials.search.search import resume_search, start_search
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import StrategyName
from trials.worker.entry import JobRunner

pytestmark = pytest.mark.slow

OPTIONS: dict[str, Any] = {
    "no_supernet": True,
    "space": "smoke",
    "target_image_size": 32,
    "target_classes": 1000,
    "target_channels": 3,
    "objectives": ["error", "latency"],
    "trials": 5,
    "max_train_images": 64,
    "max_val_images": 50,
    "max_test_images": 50,
    "image_size": 16,
    "train_images": 64,
    "device": "cpu",
    "workers": 0,
    "lookahead": 2,
    "population": 2,
}

TABLE = LatencyTable(SMALL, pretended_profile(SMALL))


def quiet(width: int = 80) -> Console:
    return Console(file=io.StringIO(), width=width)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module", autouse=True)
def quick_profiles() -> Any:
    """Lets profiles take fewer rounds than people get: what is tested here is what becomes of the numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "MIN_ROUNDS", 1)
        patch.setattr(latency, "MAX_ROUNDS", 1)
        patch.setattr(latency, "FINAL_ROUNDS", 1)
        yield


@pytest.fixture(scope="module")
def unbounded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Returns a search with latency as an objective and no budget; read-only for the tests that share it."""
    return start_search(
        SearchOptions.parse(OPTIONS, "search"), tmp_path_factory.mktemp("runs") / "unbounded", ["test"], quiet()
    )


@pytest.fixture(scope="module")
def bounded(unbounded: Run, bound: int, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Returns a search under a bound, which finds a profile beside it: the one that was measured, with pretended
    numbers."""
    folder = tmp_path_factory.mktemp("bounded")
    (path,) = (unbounded.run_dir.parent / PROFILES).iterdir()
    measured, pretended = json.loads(path.read_text()), pretended_profile(unbounded.space).model_dump(mode="json")
    (folder / PROFILES).mkdir()
    (folder / PROFILES / path.name).write_text(json.dumps({**pretended, "setting": measured["setting"]}))
    return start_search(
        SearchOptions.parse({**OPTIONS, "latency_budget": f"{bound}us"}, "search"),
        folder / "bounded",
        ["test"],
        quiet(),
    )


@pytest.fixture(scope="module")
def bound(unbounded: Run) -> int:
    """Returns a pretended latency that six of the twelve networks meet, in microseconds."""
    table = LatencyTable(unbounded.space, pretended_profile(unbounded.space))
    networks = {candidate.arch.arch_id: candidate.arch for candidate in unbounded.domain}
    latencies = sorted(map(table.latency, networks.values()))
    assert len(latencies) == 12
    assert latencies[5] < latencies[6]
    return latencies[5]


def events(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.run_dir / RECORDS_FILE).read_text().splitlines()]


def test_a_profile_is_measured_and_kept_for_other_searches_of_the_space(unbounded: Run, bounded: Run) -> None:
    (path,) = (unbounded.run_dir.parent / PROFILES).iterdir()
    profile = json.loads(path.read_text())
    assert unbounded.history.header["latency"]["profile"] == profile
    assert [tuple(part) for part, _ in profile["parts"]] == [
        (part.kind, part.side, list(part.sizes)) for part in parts_of(unbounded.space)
    ]
    assert min(microseconds for _, microseconds in profile["parts"]) > 0
    assert profile["setting"]["image_size"] == 32
    assert profile["setting"]["device"].startswith("cpu (")
    (other,) = (bounded.run_dir.parent / PROFILES).iterdir()
    assert bounded.history.header["latency"]["profile"] == json.loads(other.read_text()) != profile


def test_no_candidate_above_the_bound_is_ever_asked(bounded: Run, bound: int) -> None:
    asked = [event for event in events(bounded) if event["event"] == "asked"]
    assert len(asked) == 5
    assert bounded.domain.latency_profile is not None
    table = LatencyTable(bounded.space, bounded.domain.latency_profile)
    for event, trial in zip(asked, bounded.trials, strict=True):
        assert event["latency_us"] == table.latency(trial.candidate.arch) <= bound
        assert trial.result is not None
        assert trial.result.target.latency_us == event["latency_us"]
        assert objective_values(trial.result, ("latency", "error")) == (event["latency_us"], trial.result.error)


def test_a_small_set_is_searched_to_its_end(bounded: Run, bound: int, tmp_path: Path) -> None:
    """Six networks are fast enough: in each of their schedules once, then the search ends by itself."""
    shutil.copytree(bounded.run_dir.parent / PROFILES, tmp_path / PROFILES)
    options = {**OPTIONS, "latency_budget": f"{bound}us", "trials": 50, "strategy": "random"}
    run = start_search(SearchOptions.parse(options, "search"), tmp_path / "all", ["test"], quiet())
    keys = [trial.candidate.key for trial in run.trials]
    assert sorted(keys) == sorted(candidate.key for candidate in bounded.domain)
    assert len({arch_id for arch_id, _ in keys}) == 6


def test_the_front_is_measured_and_both_latencies_are_shown(bounded: Run) -> None:
    kept = archived(bounded.trials, bounded.options.objectives)
    measured = {event["number"]: event["latency_us"] for event in events(bounded) if event["event"] == "measured"}
    assert measured == {trial.number: trial.measured_us for trial in kept}
    assert min(measured.values()) > 0
    rows = list(csv.DictReader((bounded.run_dir / "trials.csv").read_text().splitlines()))
    assert [row["measured_latency_us"] for row in rows] == [
        str(trial.measured_us) if trial in kept else "" for trial in bounded.trials
    ]
    assert [int(row["latency_us"]) for row in rows] == [
        trial.result.target.latency_us for trial in bounded.trials if trial.result is not None
    ]
    console = quiet()
    show_front(bounded.trials, bounded.options, bounded.run_dir, 32, console, bounded.domain.latency_profile)
    shown = text_of(console)
    for trial in kept:
        assert trial.result is not None
        assert trial.result.target.latency_us is not None
        assert trial.measured_us is not None
        assert f"{trial.result.target.latency_us / 1000:.4g}/{trial.measured_us / 1000:.4g}" in shown
    assert "Latency in ms, batch 1 of 32 px, cpu (" in shown
    assert max(len(line) for line in shown.splitlines() if "│" in line) <= 80


def test_the_files_say_what_the_latency_is_of(bounded: Run, bound: int) -> None:
    front = pareto_front(bounded.trials, bounded.options.objectives)
    assert front[0].result is not None
    (path,) = (bounded.run_dir / "pareto").glob(f"trial-{front[0].number:04d}-*.yaml")
    described = yaml.safe_load(path.read_text())["metrics"]["target_latency"]
    assert front[0].measured_us is not None
    assert described["predicted_ms"] == front[0].result.target.latency_us / 1000  # type: ignore[operator]
    assert described["measured_ms"] == front[0].measured_us / 1000
    assert described["setting"]["threads"] == 1
    configuration = yaml.safe_load((bounded.run_dir / "config.yaml").read_text())
    assert configuration["latency"]["digest"] == bounded.domain.latency_profile.digest  # type: ignore[union-attr]
    assert "parts" not in configuration["latency"]
    assert configuration["options"]["latency_budget"] == bounded.options.latency_budget
    assert bounded.options.latency_max == bound


def test_a_resumed_search_uses_the_recorded_numbers_whatever_is_measured_since(bounded: Run, tmp_path: Path) -> None:
    """Cut after two trials and carried on without the profile beside it, it asks for what the whole search asked."""
    run_dir = tmp_path / "cut"
    run_dir.mkdir()
    cut = [event for event in events(bounded) if event["event"] != "measured" and event.get("number", 0) < 2]
    (run_dir / RECORDS_FILE).write_text("".join(json.dumps(event) + "\n" for event in cut))
    resumed = resume_search(run_dir, {}, quiet())
    assert [trial.candidate.key for trial in resumed.trials] == [trial.candidate.key for trial in bounded.trials]
    assert [event["latency_us"] for event in events(resumed) if event["event"] == "asked"] == [
        event["latency_us"] for event in events(bounded) if event["event"] == "asked"
    ]
    assert not (tmp_path / PROFILES).exists()
    front = archived(resumed.trials, resumed.options.objectives)
    assert front
    assert all(trial.measured_us is not None for trial in front)
    before = len(events(resumed))
    again = resume_search(run_dir, {}, quiet())
    assert [event["event"] for event in events(again)[before:]] == ["resumed", "finals", "ended"]  # nothing measured
    assert {trial.number: trial.measured_us for trial in again.trials} == {
        trial.number: trial.measured_us for trial in resumed.trials
    }


def test_elsewhere_nothing_is_measured(bounded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [json.dumps(event) for event in events(bounded) if event["event"] != "measured"]
    (tmp_path / RECORDS_FILE).write_text("\n".join([*kept, ""]))
    setup, told, elsewhere = LatencyTimer.setup, io.StringIO(), {"device": "cpu (other)"}
    monkeypatch.setattr(LatencyTimer, "setup", lambda *given: setup(*given).model_copy(update=elsewhere))
    resumed = resume_search(tmp_path, {}, Console(file=told, width=500))
    assert {trial.measured_us for trial in resumed.trials} == {None}
    assert re.search(r"is not measured: it is predicted for .*, and this is .*cpu \(other\)", told.getvalue())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"latency_budget": "1h"}, "must be a time with its unit"),
        (
            {"latency_budget": "9s"},
            r"--latency-budget cannot change in a resumed search: it was 928us, got 9s",
        ),
        ({"latency_batch": 2}, "--latency-batch cannot change in a resumed search: it was 1, got 2"),
    ],
)
def test_a_resumed_search_keeps_its_latency(bounded: Run, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resume_search(bounded.run_dir, given, quiet())


def without_checksum(event: dict[str, Any]) -> dict[str, Any]:
    """Returns an event as earlier versions wrote it."""
    return {key: value for key, value in event.items() if key != "crc32"}


def test_changed_numbers_stop_a_resume(bounded: Run, tmp_path: Path) -> None:
    header, *others = events(bounded)
    header["latency"]["profile"]["coefficients"][0] += 0.1
    lines = "".join(json.dumps(without_checksum(event)) + "\n" for event in [header, *others])
    (tmp_path / RECORDS_FILE).write_text(lines)
    with pytest.raises(UserError, match="the latency profile in its records has changed"):
        resume_search(tmp_path, {}, quiet())


def test_records_from_before_latency_are_read(bounded: Run, tmp_path: Path) -> None:
    header, *_ = events(bounded)
    del header["latency"]
    (tmp_path / RECORDS_FILE).write_text(json.dumps(without_checksum(header)) + "\n")
    assert "latency" not in read_history(tmp_path).header


def test_an_impossible_latency_is_refused_with_the_fastest_network(unbounded: Run) -> None:
    run_dir = unbounded.run_dir.parent / "impossible"
    with pytest.raises(BudgetError, match=r"no network of smoke .* of at most 1us .*; the fastest, [0-9a-f]{12}, has"):
        start_search(SearchOptions.parse({**OPTIONS, "latency_budget": "1us"}, "search"), run_dir, ["test"], quiet())
    assert not run_dir.exists()


def test_an_edited_profile_is_refused(unbounded: Run, tmp_path: Path) -> None:
    shutil.copytree(unbounded.run_dir.parent / PROFILES, tmp_path / PROFILES)
    (path,) = (tmp_path / PROFILES).iterdir()
    content = json.loads(path.read_text())
    options = SearchOptions(**OPTIONS)
    for changes, message in (({"space_digest": "0" * 12}, "it was edited; delete it"), ({"rounds": 0}, "rounds: must")):
        path.write_text(json.dumps({**content, **changes}))
        with InlineEngine(JobRunner()) as engine, pytest.raises(UserError, match=message):
            latency_profile(engine, unbounded.space, options, tmp_path / PROFILES, quiet())


def test_a_doubtful_profile_is_told(unbounded: Run, tmp_path: Path) -> None:
    shutil.copytree(unbounded.run_dir.parent / PROFILES, tmp_path / PROFILES)
    (path,) = (tmp_path / PROFILES).iterdir()
    content = json.loads(path.read_text())
    for error in (0.05, 0.2):
        content["accuracy"] = {"num_networks": 5, "median_error": error, "tau": 0.8, "flops_tau": 0.7}
        path.write_text(json.dumps(content))
        console = quiet(width=300)
        with InlineEngine(JobRunner()) as engine:
            latency_profile(engine, unbounded.space, SearchOptions(**OPTIONS), tmp_path / PROFILES, console)
        told = f"Predictions: {100 * error:.1f} % median error, tau 0.80 (FLOPs: 0.70) on 5 networks"
        assert told in text_of(console)
        assert ("was the machine busy?" in text_of(console)) is (error > 0.1)


def test_a_device_that_is_not_there_is_refused() -> None:
    with InlineEngine(JobRunner()) as engine, pytest.raises(UserError, match="cuda:77 is not there"):
        LatencyTimer(engine, SearchOptions(**{**OPTIONS, "device": "cuda:77"})).setup(SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--latency-budget", "20"], "--latency-budget: must be a time with its unit, such as 20ms, 0.5s or"),
        (["--latency-budget", "0ms"], "--latency-budget: must lie between 1us and 3600s, got '0ms'"),
        (
            ["--latency-batch", "4"],
            "--latency-batch goes with --latency-budget, or with latency among the --objectives",
        ),
        (
            ["--latency-budget", "5ms", "--latency-batch", "0"],
            "--latency-batch: must be greater than or equal to 1, got 0",
        ),
    ],
)
def test_a_mistake_costs_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["search", *arguments])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    assert code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"latency_budget": "0.02s"}, "latency at most 20ms"),
        ({"latency_budget": "1500us", "flops_budget": 10**9}, "FLOPs at most 1G, latency at most 1.5ms"),
        ({"flops_budget": 10**9}, "FLOPs at most 1G"),
        ({}, "no budget"),
    ],
)
def test_the_budget_in_words(options: dict[str, Any], text: str) -> None:
    assert SearchOptions(**options).describe_budget() == text


# --- the domain ---


@pytest.fixture(scope="module")
def domain() -> SReTDomain:
    """Returns a domain with about a tenth of the small space's networks, by pretended latencies."""
    latencies = sorted(TABLE.latency(arch) for arch in LatencySet(SMALL, Budget(), TABLE, None))
    return SReTDomain(SMALL, Budget(), TABLE, latencies[len(latencies) // 10])


def test_latency_is_a_cost_like_the_others(domain: SReTDomain) -> None:
    assert domain.chain.cost_names == ("flops", "params", "latency")
    assert domain.bounds == ((0, float("inf")), (0, float("inf")), (0, domain._latency_max))
    candidates = list(domain)
    points = [domain.point(candidate) for candidate in candidates]
    assert domain.chain.costs(points).tolist() == [list(domain.costs(candidate)) for candidate in candidates]
    assert len({candidate.key for candidate in candidates}) == len(candidates) > 100
    assert {domain.excess(candidate) for candidate in candidates} == {0.0}
    assert {candidate.depth_schedule for candidate in candidates} == {"full", "joint"}
    for by in domain.chain.cost_names:
        drawn = domain.draw_stratified(np.random.default_rng(0), 20, by)
        assert len(drawn) == 20
        assert {domain.excess(candidate) for candidate in drawn} == {0.0}


def test_the_excess_is_the_share_above_the_bound() -> None:
    unbounded = SReTDomain(SMALL, Budget(), TABLE)
    slow = max(unbounded, key=lambda candidate: unbounded.costs(candidate)[2])
    flops, _, latency_us = unbounded.costs(slow)
    assert unbounded.excess(slow) == 0
    assert SReTDomain(SMALL, Budget(), TABLE, int(latency_us) // 2).excess(slow) == pytest.approx(1, rel=0.01)
    both = SReTDomain(SMALL, Budget(flops_max=int(flops) // 2), TABLE, int(0.8 * latency_us))
    assert both.excess(slow) == pytest.approx(1, rel=0.01)


def test_a_bound_needs_a_prediction() -> None:
    with pytest.raises(ValueError, match="latency_max needs a latency table"):
        SReTDomain(SMALL, Budget(), latency_max=1000)


@pytest.mark.parametrize("name", ["random", "nsga2", "tpe"])
def test_every_strategy_stays_below_the_bound(domain: SReTDomain, name: StrategyName) -> None:
    strategy = create_strategy(name, domain, ("error", "latency"), seed=3, population=4)
    keys = []
    for number in range(16):
        candidate = strategy.ask()
        assert candidate is not None
        assert domain.excess(candidate) == 0
        keys.append(candidate.key)
        strategy.tell(candidate, (1 / (number + 1), domain.costs(candidate)[2]))
    assert len(set(keys)) == 16
