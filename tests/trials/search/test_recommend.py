"""What a search recommends at its end: evaluated first, the same after any kill, and made anew after more trials."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.errors import UserError
from sret_nas.yaml_files import dump_yaml, read_yaml
from tests.counted_spaces import FOUR_STAGES
from trials.report.front import show_front
from trials.runs.directory import RECORDS_FILE
from trials.runs.full_disk import StorageError
from trials.runs.history import read_history
from trials.runs.options import SearchOptions
from trials.runs.recommendation import ORIGIN
from trials.search.api import SearchResult, search
from trials.search.finalists import finalists, with_both_ends
from trials.search.recommend import MAX_FAILED
from trials.search.rerun import rerun_trial
from trials.search.run import Run
from trials.search.search import resume_search, start_search
from trials.strategies.structure import StructureModel
from trials.worker.entry import JobRunner

pytestmark = pytest.mark.slow

FLOPS = 800_000


def quiet(width: int = 100) -> Console:
    return Console(file=io.StringIO(), width=width)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    space = tmp_path_factory.mktemp("space") / "four.yaml"
    space.write_text(dump_yaml(FOUR_STAGES.to_dict()))
    return {
        "space": str(space), "flops_budget": FLOPS, "trials": 13, "population": 4, "seed": 1, "max_train_images": 64,
        "max_val_images": 50, "max_test_images": 50, "image_size": 16, "batch_size": 32, "supernet_images": 320,
        "train_images": 64, "finalists": 3, "controls": 1, "device": "cpu", "workers": 0, "threads": 1,
    }  # fmt: skip


def start(options: dict[str, Any], run_dir: Path) -> Run:
    return start_search(SearchOptions.parse(options, "search"), run_dir, ["test"], quiet())


@pytest.fixture(scope="module")
def finished(options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Returns a whole search; read-only for the tests that share it."""
    return start(options, tmp_path_factory.mktemp("runs") / "whole")


def outcome_of(run_dir: Path) -> list[Any]:
    """Returns all that was tried, found and recommended, to the last bit."""
    history = read_history(run_dir)
    assert history.recommended is not None
    return [
        *(
            (trial.number, trial.candidate.key, trial.origin, trial.result and trial.result.error, sorted(trial.finals))
            for trial in history.in_order
        ),
        history.recommended.model_dump(),
    ]


def test_each_share_of_the_budget_has_its_network_evaluated(finished: Run) -> None:
    recommended = finished.history.recommended
    assert recommended is not None
    assert [network.limit for network in recommended.shares][:2] == [FLOPS, int(0.75 * FLOPS)]
    for network in recommended.networks:
        trial = finished.history.trials[network.number]
        assert trial.result is not None
        assert 0.9 * network.limit <= cost_of(trial.candidate.arch).flops <= network.limit
    added = [trial for trial in finished.trials if trial.origin == ORIGIN]
    assert added
    assert [trial.number for trial in added] == list(range(13, 13 + len(added)))


def test_predictions_know_the_results_of_what_is_recommended(finished: Run) -> None:
    last = finished.history.recommended
    assert last is not None
    results = [trial for trial in finished.trials if trial.result is not None]
    lines = [json.loads(line) for line in (finished.run_dir / RECORDS_FILE).read_text().splitlines()]
    first = next(line["recommended"] for line in lines if line["event"] == "recommended")
    assert last.is_final
    assert not first["is_final"]
    model = StructureModel(
        finished.domain, [trial.candidate for trial in results],
        [trial.result.error for trial in results if trial.result is not None], axis=0,
    )  # fmt: skip
    belief = model.belief([finished.history.trials[network.number].candidate for network in last.networks])
    assert [network.predicted_error for network in last.networks] == pytest.approx(belief.mean.tolist())
    assert first["networks"][0]["predicted_error"] != pytest.approx(last.networks[0].predicted_error)
    limit = last.networks[0].limit
    costs = [cost_of(trial.candidate.arch).flops for trial in results]
    near = [trial.candidate for trial, cost in zip(results, costs, strict=True) if 0.97 * limit <= cost <= limit]
    assert float(model.belief(near).mean.min()) == pytest.approx(last.networks[0].predicted_error)


@pytest.mark.parametrize(("count", "kept"), [(0, ""), (1, "a"), (2, "ae"), (3, "ace"), (4, "abde"), (9, "abcde")])
def test_finalists_are_from_both_ends_of_the_budget(count: int, kept: str) -> None:
    assert "".join(with_both_ends("abcde", count)) == kept
    assert with_both_ends([], count) == []


def test_they_are_the_first_finalists_and_the_largest_is_the_best(finished: Run) -> None:
    assert finished.history.recommended is not None
    numbers = [network.number for network in finished.history.recommended.networks]
    shares = [network.number for network in finished.history.recommended.shares]
    assert [trial.number for trial in finalists(finished)][: len(shares)] == with_both_ends(shares, 3)
    best = read_yaml(finished.run_dir / "best.yaml")
    assert best["provenance"]["trial"] == numbers[0]
    assert "the least validation error by the model of all trials" in best["provenance"]["chosen_because"]
    predicted = finished.history.recommended.networks[0]
    assert best["metrics"]["predicted_validation_error"] == pytest.approx(predicted.predicted_error)
    with (finished.run_dir / "trials.csv").open() as file:
        rows = {int(row["trial"]): row["predicted_error"] for row in csv.DictReader(file)}
    assert {number for number, text in rows.items() if text} == set(numbers)
    assert float(rows[numbers[0]]) == predicted.predicted_error
    files = sorted((finished.run_dir / "recommended").iterdir())
    assert len(files) == len(numbers)
    assert {ArchConfig.from_yaml(path).arch_id for path in files} == {
        finished.history.trials[number].candidate.arch.arch_id for number in numbers
    }


@pytest.mark.parametrize("width", [50, 80, 120])
def test_the_table_fits(width: int, finished: Run) -> None:
    console = quiet(width)
    show_front(finished.trials, finished.options, finished.run_dir, 64, console, None, finished.history.recommended)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert any(line.startswith("Recommended: ") for line in lines)
    tables = [line for line in lines if line[:1] in "┃│┏┡├└"]
    assert max(map(len, tables)) <= width
    assert not any("…" in line for line in tables)


def _cut_after(run_dir: Path, event: str, which: int) -> None:
    """Keeps the records up to an event of a kind, as a kill right after it would."""
    lines = (run_dir / RECORDS_FILE).read_text().splitlines(keepends=True)
    positions = [position for position, line in enumerate(lines) if json.loads(line)["event"] == event]
    (run_dir / RECORDS_FILE).write_text("".join(lines[: positions[which] + 1]))


@pytest.mark.parametrize(
    ("event", "which"), [("asked", -1), ("recommended", 0), ("recommended", -1), ("finished", -1), ("final", 0)]
)
def test_a_kill_at_the_end_changes_nothing(event: str, which: int, finished: Run, tmp_path: Path) -> None:
    run_dir = tmp_path / "killed"
    shutil.copytree(finished.run_dir, run_dir)
    _cut_after(run_dir, event, which)
    resume_search(run_dir, {}, quiet())
    assert outcome_of(run_dir) == outcome_of(finished.run_dir)


def _with_a_fault_in(
    monkeypatch: pytest.MonkeyPatch, networks: int, times: int, harm: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[str]:
    """Harms the first attempts at so many recommended networks, in the order in which they come; returns their ids."""
    harmed: list[str] = []
    attempts: Counter[str] = Counter()

    class FaultyJobRunner:
        def __init__(self) -> None:
            self._run_real_job = JobRunner()

        def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
            if not payload["kind"].endswith("trial"):
                return self._run_real_job(payload)
            key = ArchConfig.from_dict(payload["arch"], "job").arch_id
            if key not in harmed and len(harmed) < networks:
                harmed.append(key)
            attempts[key] += 1
            result = self._run_real_job(payload)
            return harm(result) if key in harmed and attempts[key] <= times else result

    monkeypatch.setattr("trials.search.search.JobRunner", FaultyJobRunner)
    return harmed


def _not_finite(result: dict[str, Any]) -> dict[str, Any]:
    return {**result, "cross_entropy": math.nan}


def _raise(error: BaseException) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def harm(result: dict[str, Any]) -> dict[str, Any]:
        raise error

    return harm


def _resumed_before_evaluating(finished: Run, run_dir: Path, console: Console | None = None) -> Run:
    if not run_dir.exists():
        shutil.copytree(finished.run_dir, run_dir)
        _cut_after(run_dir, "recommended", 0)
    return resume_search(run_dir, {}, console or quiet())


def test_a_network_whose_trial_diverges_is_replaced_by_the_next_best_of_its_cost(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harmed, console = _with_a_fault_in(monkeypatch, networks=1, times=9, harm=_not_finite), quiet()
    run = _resumed_before_evaluating(finished, tmp_path / "run", console)
    assert isinstance(console.file, io.StringIO)
    assert "recommended: failed, the result has cross_entropy nan" in console.file.getvalue()
    (failed,) = [trial for trial in run.trials if trial.failure is not None]
    assert (failed.origin, [failed.arch_id]) == (ORIGIN, harmed)
    known, before = run.history.recommended, finished.history.recommended
    assert known is not None
    assert before is not None
    assert [network.limit for network in known.shares] == [network.limit for network in before.shares]  # the bend moves
    assert failed.number not in {network.number for network in known.networks}
    assert all(run.history.trials[network.number].result is not None for network in known.networks)
    best = read_yaml(run.run_dir / "best.yaml")
    assert best["provenance"]["trial"] == known.networks[0].number
    again = outcome_of(run.run_dir)
    resume_search(run.run_dir, {}, quiet())
    assert outcome_of(run.run_dir) == again


def test_if_all_fail_the_search_still_ends_with_what_it_tried(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_a_fault_in(monkeypatch, networks=99, times=9, harm=_raise(ValueError("a fault of the test")))
    run = _resumed_before_evaluating(finished, tmp_path / "run")
    failed = [trial for trial in run.trials if trial.failure is not None]
    assert MAX_FAILED < len(failed) <= 2 * MAX_FAILED
    result = SearchResult.open(run.run_dir)
    assert run.history.recommended is not None
    trials = [run.history.trials[network.number] for network in run.history.recommended.networks]
    assert len(result.recommended) == sum(trial.result is not None for trial in trials)
    assert result.best.error is not None
    assert "failed" in (run.run_dir / "report.html").read_text()


def test_after_memory_ran_out_once_nothing_differs(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_a_fault_in(monkeypatch, networks=99, times=1, harm=_raise(MemoryError()))
    run = _resumed_before_evaluating(finished, tmp_path / "run")
    assert any(trial.retried for trial in run.trials)
    assert outcome_of(run.run_dir) == outcome_of(finished.run_dir)


def test_a_full_disk_ends_the_search_and_costs_nothing(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "file")
    _with_a_fault_in(monkeypatch, networks=1, times=1, harm=_raise(full))
    with pytest.raises(StorageError, match="all that was recorded until then is safe"):
        _resumed_before_evaluating(finished, tmp_path / "run")
    _resumed_before_evaluating(finished, tmp_path / "run")
    assert outcome_of(tmp_path / "run") == outcome_of(finished.run_dir)


def test_a_report_that_cannot_be_drawn_costs_no_result(finished: Run, tmp_path: Path) -> None:
    run_dir, console = tmp_path / "whole", quiet()
    shutil.copytree(finished.run_dir, run_dir)
    for name in ("report.html", "front.png"):
        (run_dir / name).unlink()
        (run_dir / name).mkdir()  # which no file can replace
    (run_dir / "best.yaml").unlink()
    resume_search(run_dir, {}, console)
    assert isinstance(console.file, io.StringIO)
    warnings = [line for line in console.file.getvalue().splitlines() if line.startswith("warning: ")]
    assert [line.partition(" could not be drawn (Is a directory); ")[0] for line in warnings] == [
        f"warning: {run_dir / name}" for name in ("front.png", "report.html")
    ]
    assert "search --resume" in warnings[0]
    assert read_yaml(run_dir / "best.yaml") == read_yaml(finished.run_dir / "best.yaml")


def test_with_more_trials_it_recommends_anew_and_tries_nothing_twice(finished: Run, tmp_path: Path) -> None:
    run_dir = tmp_path / "longer"
    shutil.copytree(finished.run_dir, run_dir)
    longer = resume_search(run_dir, {"trials": 20}, quiet())
    assert longer.history.recommended is not None
    assert longer.history.recommended.num_trials == sum(trial.origin != ORIGIN for trial in longer.trials) == 20
    keys = [trial.candidate.key for trial in longer.trials]
    assert len(set(keys)) == len(keys)
    assert all(trial.has_ended for trial in longer.trials)
    again = outcome_of(run_dir)
    resume_search(run_dir, {}, quiet())
    assert outcome_of(run_dir) == again


def test_by_the_proxy_nothing_is_recommended(options: dict[str, Any], tmp_path: Path) -> None:
    run = start({**options, "best_by": "proxy", "finalists": 1, "controls": 0}, tmp_path / "proxy")
    assert run.history.recommended is None
    assert len(run.trials) == 13
    assert not (run.run_dir / "recommended").exists()
    assert read_yaml(run.run_dir / "best.yaml")["provenance"]["chosen_because"].startswith("it has the least")


def test_a_trial_runs_again_to_the_same_result(finished: Run, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(finished.run_dir, runs / "whole")
    before = (runs / "whole" / RECORDS_FILE).read_bytes()
    console = quiet()
    rerun_trial(runs / "whole", 3, console)
    assert isinstance(console.file, io.StringIO)
    assert "Equal to the last bit." in console.file.getvalue()
    assert (runs / "whole" / RECORDS_FILE).read_bytes() == before


def test_known_networks_are_tried_first_and_only_once(options: dict[str, Any], finished: Run, tmp_path: Path) -> None:
    known = [finished.trials[number].candidate.arch for number in (9, 4)]
    run = start({**options, "best_by": "proxy", "enqueue": [arch.to_dict() for arch in known]}, tmp_path / "enqueued")
    assert [trial.candidate.arch for trial in run.trials[:2]] == known
    assert [trial.origin for trial in run.trials[:3]] == ["enqueued", "enqueued", "design"]
    assert len({trial.candidate.key for trial in run.trials}) == 13
    before = outcome_without_recommendations(run.run_dir)
    _cut_after(run.run_dir, "finished", 5)
    resume_search(run.run_dir, {}, quiet())
    assert outcome_without_recommendations(run.run_dir) == before


def outcome_without_recommendations(run_dir: Path) -> list[Any]:
    return [(t.number, t.candidate.key, t.origin, t.result and t.result.error) for t in read_history(run_dir).in_order]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 32}, "is not one of test for 64 px, 3 channel"),
        ({}, "names network .* twice"),
    ],
)
def test_a_network_that_cannot_be_tried_is_refused_before_anything_is_written(
    change: dict[str, Any], message: str, options: dict[str, Any], finished: Run, tmp_path: Path
) -> None:
    arch = {**finished.trials[0].candidate.arch.to_dict(), **change}
    with pytest.raises(UserError, match=message):
        start({**options, "enqueue": [arch, arch]}, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_results_can_be_asked_from_another_folder(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.run_dir.parent)
    result = SearchResult.open(finished.run_dir.name)
    assert result == SearchResult.open(finished.run_dir)
    monkeypatch.chdir(tmp_path)
    assert result.pick(flops=FLOPS).flops <= FLOPS


@pytest.mark.parametrize("name", ["flops", "params"])
def test_a_cost_that_is_none_is_named(name: str, finished: Run) -> None:
    with pytest.raises(UserError, match=f"^{name}: must be a number such as 1G"):
        SearchResult.open(finished.run_dir).pick(**{name: "much"})


def test_a_search_is_one_call_in_python(options: dict[str, Any], finished: Run, tmp_path: Path) -> None:
    given = {**options, "flops_budget": f"{FLOPS / 1000:g}K"}
    result = search(out=tmp_path / "called", quiet=True, **given)
    assert outcome_of(tmp_path / "called") == outcome_of(finished.run_dir)
    assert result.best == result.recommended[0]
    assert [network.flops for network in result.front] == sorted(network.flops for network in result.front)
    cheaper = result.pick(flops=f"{0.7 * FLOPS / 1000:g}K")
    assert cheaper.flops <= 0.7 * FLOPS
    with pytest.raises(UserError, match="unknown key"):
        search(out=tmp_path / "wrong", quiet=True, flop_budget="1G")
    assert not (tmp_path / "wrong").exists()
