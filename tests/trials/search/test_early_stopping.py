"""Whole searches whose trials are compared at rungs: what they leave behind, and that no interruption changes it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

import trials.training.train
from sret_nas.errors import UserError
from trials.report.front import show_front
from trials.runs.directory import RECORDS_FILE
from trials.runs.history import read_history
from trials.runs.objectives import pareto_front
from trials.runs.options import SearchOptions
from trials.runs.optuna_journal import JOURNAL_FILE
from trials.search.run import Run
from trials.search.search import resume_search, start_search

pytestmark = pytest.mark.slow

OPTIONS: dict[str, Any] = {
    "no_supernet": True, "space": "smoke", "trials": 10, "rungs": 2, "eta": 3, "seed": 5, "max_train_images": 128,
    "max_val_images": 100, "max_test_images": 100, "image_size": 24, "train_images": 384, "device": "cpu", "workers": 0,
    "strategy": "random", "lookahead": 3, "population": 4,
}  # fmt: skip


def quiet() -> Console:
    return Console(file=io.StringIO(), width=120)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start_search(
        SearchOptions.parse(OPTIONS, "search"), tmp_path_factory.mktemp("runs") / "whole", ["test"], quiet()
    )


def story(run_dir: Path) -> list[tuple[Any, ...]]:
    """Returns all that a search found, trial by trial and rung by rung, to the last bit."""
    return [
        (number, trial.candidate.key, trial.is_stopped, trial.test,
         [(found.error, found.cross_entropy, found.train_loss) for found in (*trial.partial, trial.result) if found])
        for number, trial in sorted(read_history(run_dir).trials.items())
    ]  # fmt: skip


def test_some_trials_are_stopped_and_the_front_is_of_the_others(finished: Run) -> None:
    every = finished.trials
    stopped = {trial.number for trial in every if trial.is_stopped}
    assert 2 <= len(stopped) <= 7
    assert all(trial.has_ended for trial in every)
    assert [trial.partial[0].train_images for trial in every] == [128] * 10
    assert {trial.result.train_images for trial in every if trial.result} == {384}
    front = {trial.number for trial in pareto_front(every, finished.options.objectives)}
    assert front
    assert not front & stopped
    names = [path.name for path in (finished.run_dir / "weights").iterdir()]
    assert {int(name[6:10]) for name in names} == front
    assert list((finished.run_dir / "checkpoints").iterdir()) == []


def test_tables_and_the_journal_tell_stopped_trials_from_finished_ones(finished: Run) -> None:
    stopped = [trial for trial in finished.trials if trial.is_stopped]
    with (finished.run_dir / "trials.csv").open() as file:
        rows = {int(row["trial"]): row for row in csv.DictReader(file)}
    for trial in stopped:
        row = rows[trial.number]
        assert (row["state"], row["share"], float(row["error"])) == ("stopped", "0.3333", trial.partial[0].error)
    assert {row["share"] for row in rows.values() if row["state"] == "finished"} == {"1"}
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(finished.run_dir / JOURNAL_FILE))
    )
    (study,) = optuna.get_all_study_summaries(storage)
    states = Counter(trial.state for trial in optuna.load_study(study_name=study.study_name, storage=storage).trials)
    assert states == {TrialState.PRUNED: len(stopped), TrialState.COMPLETE: 10 - len(stopped)}
    text = io.StringIO()
    show_front(finished.trials, finished.options, finished.run_dir, 224, Console(file=text, width=100))
    assert f"of {10 - len(stopped)} trials; {len(stopped)} more stopped early" in text.getvalue()


def test_the_number_of_workers_changes_nothing(finished: Run, tmp_path: Path) -> None:
    """Three, of which each takes on what another began, find what the search in this process did."""
    run = start_search(SearchOptions.parse({**OPTIONS, "workers": 2}, "search"), tmp_path / "again", ["test"], quiet())
    assert story(run.run_dir) == story(finished.run_dir)


@pytest.mark.parametrize(("kind", "count"), [("rung", 4), ("stopped", 1)])
def test_a_killed_search_finds_what_it_would_have(finished: Run, tmp_path: Path, kind: str, count: int) -> None:
    """The records end after such an event, and checkpoints are lost: trainings begin anew and come to the same."""
    lines = (finished.run_dir / RECORDS_FILE).read_bytes().splitlines(keepends=True)
    events = [at for at, line in enumerate(lines) if json.loads(line)["event"] == kind]
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / RECORDS_FILE).write_bytes(b"".join(lines[: events[count - 1] + 1]))
    shutil.copytree(finished.run_dir / "weights", cut / "weights")
    assert story(resume_search(cut, {}, quiet()).run_dir) == story(finished.run_dir)


def test_no_step_is_trained_twice(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps to the rung, four from there to the end; also with the search interrupted on the way."""
    steps: list[int] = []
    train_step = trials.training.train.Training._step

    def counted(*arguments: Any) -> float:
        steps.append(1)
        if len(steps) == MEASURED + 15:
            raise KeyboardInterrupt
        return train_step(*arguments)

    monkeypatch.setattr(trials.training.train.Training, "_step", counted)
    with pytest.raises(KeyboardInterrupt):
        start_search(SearchOptions.parse(OPTIONS, "search"), tmp_path / "run", ["test"], quiet())
    given_up = steps_since_the_last_record(tmp_path / "run", len(steps) - 1 - MEASURED)
    run = resume_search(tmp_path / "run", {}, quiet())
    assert story(run.run_dir) == story(finished.run_dir)
    num_finished = sum(trial.result is not None for trial in run.trials)
    assert len(steps) - 1 == 2 * MEASURED + given_up + 2 * 10 + 4 * num_finished


MEASURED = 8
"""Steps that measure the speed, when a search begins and when it is resumed."""


def steps_since_the_last_record(run_dir: Path, steps: int) -> int:
    """Returns the steps that were trained in vain."""
    history = read_history(run_dir).trials.values()
    ends = [trial.result.train_steps if trial.result else len(trial.partial) * 2 for trial in history]
    return steps - sum(ends)


def test_a_search_with_a_supernet_stops_early_as_well(tmp_path: Path) -> None:
    options = {
        **OPTIONS, "no_supernet": False, "supernet_images": 256, "finalists": 1, "controls": 0, "trials": 10,
        "rungs": 3, "train_images": 64,
    }  # fmt: skip
    run = start_search(SearchOptions.parse(options, "search"), tmp_path / "run", ["test"], quiet())
    images = {found.val_images for trial in run.trials for found in trial.partial}
    assert images == {11, 33}
    assert {trial.result.val_images for trial in run.trials if trial.result} == {100}
    assert any(trial.is_stopped for trial in run.trials)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rungs": 6, "eta": 3},
            "--rungs 6 leaves 1 of 384 training images for the first rung, and at least 64 are needed: "
            "lower --rungs or --batch-size, or raise --train-images",
        ),
        ({"rungs": 1, "eta": 2}, "--eta goes with --rungs"),
        ({"rungs": 9}, "rungs"),
    ],
)
def test_rungs_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        start_search(SearchOptions.parse({**OPTIONS, **changes}, "search"), tmp_path / "run", ["test"], quiet())
    assert not (tmp_path / "run").exists()
