"""Run directories that are deleted, and images that are changed, while a search or a supernet's training runs."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from sret_nas.errors import UserError
from trials.data.prepared import ImagesChangedError
from trials.engines.jobs import ScratchTrialJob
from trials.lost_directory import LostDirectoryError, WatchedDirectory, rescue
from trials.runs.directory import RECORDS_FILE
from trials.runs.history import read_history
from trials.runs.options import SearchOptions
from trials.search.search import resume_search, start_search
from trials.supernet import training
from trials.supernet.state import CHECKPOINT
from trials.worker import dispatch
from trials.worker.context import WorkerContext
from trials.worker.entry import JobRunner

pytestmark = pytest.mark.slow

OPTIONS: dict[str, Any] = {
    "no_supernet": True,
    "space": "smoke",
    "target_classes": 1000,
    "target_channels": 3,
    "params_budget": 300_000,
    "trials": 3,
    "max_train_images": 64,
    "max_val_images": 40,
    "max_test_images": 40,
    "image_size": 24,
    "train_images": 64,
    "device": "cpu",
    "workers": 0,
    "lookahead": 1,
}
WITH_SUPERNET = {
    **{name: value for name, value in OPTIONS.items() if name != "no_supernet"},
    "batch_size": 32,
    "supernet_images": 160,
    "finalists": 0,
    "controls": 0,
}


class Listener(StringIO):
    """Output that does something once, as soon as it has a text."""

    def __init__(self, text: str, act: Callable[[], object]) -> None:
        super().__init__()
        self._text, self._act = text, act
        self._has_acted = False

    def write(self, text: str) -> int:
        if self._text in text and not self._has_acted:
            self._has_acted = True
            self._act()
        return super().write(text)


def hearing(text: str, act: Callable[[], object]) -> Console:
    return Console(file=Listener(text, act), width=300)


def quiet() -> Console:
    return Console(file=StringIO(), width=300)


def outcome_of(run_dir: Path) -> list[Any]:
    trials = read_history(run_dir).trials
    return [(n, trial.candidate.key, trial.result and trial.result.error) for n, trial in sorted(trials.items())]


def parsed(options: dict[str, Any]) -> SearchOptions:
    return SearchOptions.parse(options, "search")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start_search(parsed(OPTIONS), tmp_path_factory.mktemp("runs") / "whole", ["test"], quiet()).run_dir


def test_a_search_whose_directory_is_deleted_says_so_and_goes_on_from_what_was_kept(
    whole: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    console = hearing("trial 0 ", lambda: shutil.rmtree(run_dir))
    with pytest.raises(LostDirectoryError, match=r"run was deleted, .* --resume .*/run-rescued$"):
        start_search(parsed(OPTIONS), run_dir, ["test"], console)
    assert not (run_dir / RECORDS_FILE).exists()
    assert outcome_of(tmp_path / "run-rescued")[0] == outcome_of(whole)[0]
    resume_search(tmp_path / "run-rescued", {}, quiet())
    assert outcome_of(tmp_path / "run-rescued") == outcome_of(whole)


def test_a_directory_deleted_after_the_last_record_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"
    monkeypatch.setattr("trials.search.search.measure_front", lambda run, engine: shutil.rmtree(run.run_dir))
    with pytest.raises(LostDirectoryError):
        start_search(parsed({**OPTIONS, "trials": 1}), run_dir, ["test"], quiet())
    assert not run_dir.exists()
    assert read_history(tmp_path / "run-rescued").trials[0].test is not None


def test_an_error_that_comes_of_the_deleted_directory_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(run: Any, engine: Any) -> None:
        shutil.rmtree(run.run_dir)
        raise UserError("there is no such file")

    monkeypatch.setattr("trials.search.search.measure_front", fails)
    with pytest.raises(LostDirectoryError, match="run was deleted"):
        start_search(parsed({**OPTIONS, "trials": 1}), tmp_path / "run", ["test"], quiet())


def test_a_search_whose_directory_is_deleted_while_its_supernet_trains_keeps_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start_search(parsed(WITH_SUPERNET), tmp_path / "whole", ["test"], quiet()).run_dir
    at_step(monkeypatch, 3, lambda: shutil.rmtree(tmp_path / "run"))
    with pytest.raises(LostDirectoryError, match=r"run was deleted, .* --resume .*/run-rescued$"):
        start_search(parsed(WITH_SUPERNET), tmp_path / "run", ["test"], quiet())
    rescued = tmp_path / "run-rescued"
    assert sorted(path.name for path in rescued.iterdir()) == [RECORDS_FILE, "supernet"]
    assert torch.load(rescued / "supernet" / CHECKPOINT, weights_only=True)["counts"]["steps"] == 3
    resume_search(rescued, {}, quiet())
    assert outcome_of(rescued) == outcome_of(whole)


def test_a_trained_supernet_that_is_deleted_with_its_run_is_asked_for(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(
        start_search(parsed({**WITH_SUPERNET, "trials": 1}), run_dir, ["test"], quiet()).run_dir, tmp_path / "copy"
    )
    console = hearing("Resuming", lambda: shutil.rmtree(run_dir))
    with pytest.raises(LostDirectoryError, match=r"with a copy of it as .*/run-rescued/supernet/supernet\.safetensors"):
        resume_search(run_dir, {"trials": 2}, console)
    shutil.copytree(tmp_path / "copy" / "supernet", tmp_path / "run-rescued" / "supernet")
    assert resume_search(tmp_path / "run-rescued", {"trials": 2}, quiet()).trials[1].result is not None


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> None:
    """Has a supernet's training do something in the middle of a step, with a checkpoint after every one."""
    steps, train_step = itertools.count(1), training.SupernetTraining.train_step

    def step(self: training.SupernetTraining, *batch: torch.Tensor) -> float | None:
        if self._watched is not None and next(steps) == number:  # not while its speed is measured
            act()
        return train_step(self, *batch)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(training.SupernetTraining, "train_step", step)


def test_images_that_are_overwritten_end_a_search_that_can_be_carried_on(whole: Path, tmp_path: Path) -> None:
    """Nothing is recorded of the trial that saw them; with them mended, the search goes on as if nothing was."""
    run_dir = tmp_path / "run"
    console = hearing("trial 0 ", lambda: overwrite(tmp_path / "prepared-data"))
    with pytest.raises(UserError, match=r"the prepared images changed while they were in use: .*no result that"):
        start_search(parsed(OPTIONS), run_dir, ["test"], console)
    assert [trial.has_ended for trial in read_history(run_dir).trials.values()] == [True, False]
    console = quiet()
    resume_search(run_dir, {}, console)
    assert isinstance(console.file, StringIO)
    lines = [line for line in console.file.getvalue().splitlines() if line.startswith("warning")]
    assert len(lines) == 1
    assert lines[0].endswith("have changed since they were prepared; preparing the images anew")
    assert outcome_of(run_dir) == outcome_of(whole)


def test_what_was_computed_while_images_changed_is_worth_nothing(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole.parent / "prepared-data", tmp_path / "prepared-data")
    run = resume_search(whole, {}, quiet())
    (directory,) = (tmp_path / "prepared-data").iterdir()
    fields = {**dict(run.job_context), "data_dir": str(directory)}
    trial = run.trials[0]
    job = ScratchTrialJob(
        arch=trial.candidate.arch, depth_schedule=trial.candidate.depth_schedule, budget=run.options.budget,
        seed=run.options.seed, **fields,
    )  # fmt: skip
    payload = job.model_dump(mode="json")
    evaluate = dispatch.evaluate

    def overwritten(job: ScratchTrialJob, context: WorkerContext) -> Any:
        result = evaluate(job, context)
        overwrite(tmp_path / "prepared-data")
        return result

    worker = JobRunner()
    worker(payload)
    monkeypatch.setattr(dispatch, "evaluate", overwritten)
    with pytest.raises(ImagesChangedError, match="changed while they were in use"):
        worker(payload)


def overwrite(prepared: Path) -> None:
    (path,) = prepared.glob("*/train_images.npy")
    np.lib.format.open_memmap(path, mode="r+")[:] = 7


def test_a_supernet_s_training_keeps_no_checkpoint_of_changed_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 3, lambda: overwrite(tmp_path / "prepared-data"))
    with pytest.raises(ImagesChangedError):
        start_search(parsed(WITH_SUPERNET), tmp_path / "run", ["test"], quiet())
    checkpoint = torch.load(tmp_path / "run" / "supernet" / CHECKPOINT, weights_only=True)
    assert checkpoint["counts"]["steps"] == 2


def test_a_directory_is_the_same_as_long_as_it_is_there(tmp_path: Path) -> None:
    watched = WatchedDirectory(tmp_path / "a" / "b")
    assert not watched.is_lost
    (tmp_path / "a").rename(tmp_path / "c")
    assert watched.is_lost
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert watched.is_lost


def test_what_is_rescued_lies_beside_the_outermost_folder_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "run-rescued").mkdir()
    error = rescue(tmp_path / "run" / "supernet", lambda folder: (folder / "kept").write_text("x"))
    assert error.rescued == tmp_path / "run-rescued-2" / "supernet"
    assert (error.rescued / "kept").read_text() == "x"
