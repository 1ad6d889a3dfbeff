"""A study from its file to its results: a user's own of two variants, interrupted, resumed, made longer."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from benchmarks import studies
from sret_nas.errors import ConfigError, UserError
from tests.trials.studies.tiny_study import errors_of, run_study, write_study
from trials.report.study import StudyOutcome
from trials.runs.directory import RECORDS_FILE
from trials.runs.study_records import read_study_history
from trials.studies.run import resume_study
from trials.studies.show import show_study
from trials.training.full import FullTraining
from trials.training.recipe import DivergedError

STEPS = 2 * 3
"""Steps of each training."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def study_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyOutcome, str]:
    folder = tmp_path_factory.mktemp("study")
    outcome, printed = run_study(write_study(folder), folder / "run")
    return folder / "run", outcome, printed


def resume(run_dir: Path, **given: Any) -> tuple[StudyOutcome, str]:
    printed = io.StringIO()
    outcome = resume_study(run_dir, given, Console(file=printed, width=120))
    return outcome, printed.getvalue()


def test_a_study_says_what_it_costs_and_what_came_out(study_run: tuple[Path, StudyOutcome, str]) -> None:
    _, outcome, printed = study_run
    lines = printed.splitlines()
    assert lines[1] == "Study: Tiny loops: 2 variants on 2 seeds"
    assert lines[2].startswith("Trainings: 4 of 96 images each, about ")
    assert lines[3].startswith("Plan: about ")
    assert lines[3].endswith(" MB of memory for each worker")
    assert [line.partition(":")[0] for line in lines if "[" in line] == [
        "internal, seed 0", "external, seed 0", "internal, seed 1", "external, seed 1"
    ]  # fmt: skip
    assert outcome.num_finished == outcome.num_planned == 4
    assert "1. Internal is better. (nobody)" in printed
    assert printed.count("90 % interval") == 3


def test_results_are_files_that_agree_with_the_records(study_run: tuple[Path, StudyOutcome, str]) -> None:
    run_dir, outcome, _ = study_run
    rows = list(csv.DictReader((run_dir / "results.csv").read_text().splitlines()))
    assert [(row["variant"], row["seed"]) for row in rows] == [
        ("internal", "0"), ("internal", "1"), ("external", "0"), ("external", "1")
    ]  # fmt: skip
    assert {row["train_images"] for row in rows} == {"96"}
    data = json.loads((run_dir / "results.json").read_text())
    trainings = data["variants"][0]["trainings"]
    assert [one["cross_entropy"] for one in trainings] == list(errors_of(outcome)["internal"].values())
    assert [depth["recursions"] for depth in trainings[0]["depths"]] == [[1], [2]]
    assert [epoch["images"] for epoch in trainings[0]["epochs"]] == [48, 96]
    assert set(trainings[0]["epochs"][0]["coefficients"]) == set(trainings[0]["epochs"][1]["coefficients"]) != set()
    assert data["data"]["test_images"] == 40
    assert str(run_dir) not in (run_dir / "results.json").read_text() + (run_dir / "results.md").read_text()
    assert (run_dir / "results.png").read_bytes().startswith(b"\x89PNG")
    page = (run_dir / "results.md").read_text()
    assert "| Alike. (nobody) | none given | internal - external at 1 recursion = " in page
    assert "tiny.yaml --data digits --seeds 2`" in page


@pytest.mark.slow
def test_equal_seeds_are_equal_trainings(study_run: tuple[Path, StudyOutcome, str], tmp_path: Path) -> None:
    """A variant has the same result in a study of other variants, so that studies can be put together."""
    others = [{"name": "internal"}, {"name": "wide", "changes": {"stages": {"width": 16}}}]
    outcome, _ = run_study(write_study(tmp_path, variants=others, claims=None, seeds=1), tmp_path / "run")
    assert errors_of(outcome)["internal"] == {0: errors_of(study_run[1])["internal"][0]}


@pytest.mark.slow
def test_an_interrupted_study_goes_on_where_it_was(
    study_run: tuple[Path, StudyOutcome, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = list[int]()
    train_step = FullTraining.train_step

    def interrupted(training: FullTraining, stream: Any) -> float | None:
        if (tmp_path / "run" / RECORDS_FILE).exists():  # not in a probe
            if len(steps) == STEPS + 4:  # in the second epoch of the second training
                raise KeyboardInterrupt
            steps.append(training.state.counts.steps)
        return train_step(training, stream)

    monkeypatch.setattr(FullTraining, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(write_study(tmp_path), tmp_path / "run")
    assert len(read_study_history(tmp_path / "run").finished) == 1
    with (tmp_path / "run" / RECORDS_FILE).open("ab") as records:  # as a kill in the middle of a line leaves it
        records.write(b'{"event": "finished", "variant": "exter')
    continued = list[int]()

    def counted(training: FullTraining, stream: Any) -> float | None:
        continued.append(training.state.counts.steps)
        return train_step(training, stream)

    monkeypatch.setattr(FullTraining, "train_step", counted)
    outcome, printed = resume(tmp_path / "run")
    assert printed.splitlines()[0] == f"Resuming {tmp_path / 'run'}: 1 of 4 trainings have ended."
    assert continued == [4, 5, *range(STEPS), *range(STEPS)]
    assert errors_of(outcome) == errors_of(study_run[1])


@pytest.mark.slow
def test_a_finished_study_can_have_more_seeds(study_run: tuple[Path, StudyOutcome, str], tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(study_run[0], run_dir)
    outcome, printed = resume(run_dir, seeds=3)
    assert [line.partition(":")[0] for line in printed.splitlines() if "[" in line] == [
        "internal, seed 2", "external, seed 2"
    ]  # fmt: skip
    assert list(errors_of(outcome)["external"]) == [0, 1, 2]
    _, again = resume(run_dir)
    assert again.splitlines()[0].endswith("6 of 6 trainings have ended.")
    with pytest.raises(UserError, match=r"--seeds must be at least the 3 of the study, got 2"):
        resume(run_dir, seeds=2)
    with pytest.raises(UserError, match=r"a resumed study keeps its options, --epochs among them"):
        resume(run_dir, epochs=2)


def test_a_study_is_resumed_on_its_own_images_alone(study_run: tuple[Path, StudyOutcome, str], tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(study_run[0], run_dir)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(10):
            Image.new("L", (8, 8), index).save(tmp_path / "images" / name / f"{index}.png")
    with pytest.raises(UserError, match=r"are not those that .* was begun with"):
        resume(run_dir, data=str(tmp_path / "images"))
    with pytest.raises(UserError, match=r"gone: there is .* \(a resumed study needs its images: .* as --data says"):
        resume(run_dir, data=str(tmp_path / "gone"))


@pytest.mark.slow
def test_a_teacher_comes_first_and_its_labels_are_learned(tmp_path: Path) -> None:
    variants = [{"name": "classes"}, {"name": "soft", "labels": "soft"}, {"name": "both", "labels": "hard and soft"}]
    file = write_study(
        tmp_path, variants=variants, claims=None, seeds=1, teacher={"changes": {"stages": {"width": 16}}}
    )
    outcome, printed = run_study(file, tmp_path / "run")
    assert [line.partition(":")[0] for line in printed.splitlines() if "[" in line] == [
        "teacher, seed 0", "classes, seed 0", "soft, seed 0", "both, seed 0"
    ]  # fmt: skip
    assert outcome.teacher is not None
    assert len({values[0] for values in errors_of(outcome).values()}) == 3
    assert f"Teacher: test error {100 * outcome.teacher.error:.2f} %" in printed


@pytest.mark.slow
def test_a_training_that_fails_is_told_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FullTraining.run

    def diverging(training: FullTraining, *given: Any) -> dict[str, Any]:
        if training._directory.name == "external-seed0":
            raise DivergedError("the loss is not finite")
        return run(training, *given)

    file = write_study(tmp_path)
    monkeypatch.setattr(FullTraining, "run", diverging)
    outcome, printed = run_study(file, tmp_path / "run")
    assert "external, seed 0: failed: diverged: the loss is not finite" in printed
    assert list(errors_of(outcome)["external"]) == [1]
    assert list(errors_of(outcome)["internal"]) == [0, 1]
    assert outcome.num_finished == 3
    _, again = resume(tmp_path / "run")  # what failed would fail again, so it is not repeated
    assert again.splitlines()[0].endswith("4 of 4 trainings have ended.")


def test_nothing_is_written_where_something_is(study_run: tuple[Path, StudyOutcome, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not empty"):
        run_study(write_study(tmp_path), study_run[0])
    with pytest.raises(UserError, match=r"holds no study: there is no records.jsonl in it"):
        resume(tmp_path)
    with pytest.raises(ConfigError, match=r"variants: must have at least 2 item"):
        run_study(write_study(tmp_path, variants=[{"name": "one"}], claims=None), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("width", [50, 80, 120])
def test_a_run_is_shown_at_any_width(
    study_run: tuple[Path, StudyOutcome, str], width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = io.StringIO()
    show_study(str(study_run[0]), Console(file=printed, width=width), as_json=False)
    lines = printed.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if line.startswith(("internal  ", "external  ", " internal  ", " external  "))]
    assert len(rows) == 2
    show_study(str(study_run[0]), Console(file=printed), as_json=True)
    assert json.loads(capsys.readouterr().out)["finished"] == 4


@pytest.mark.slow
def test_a_run_of_a_shipped_study_can_be_published(
    study_run: tuple[Path, StudyOutcome, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"is a run of tiny, which is not shipped"):
        studies.publish(study_run[0], tmp_path, tmp_path)
    other = [{"name": "internal"}, {"name": "external", "changes": {"stages": {"width": 16}}}]
    monkeypatch.setattr(studies, "shipped_studies", lambda: {"tiny": write_study(tmp_path, variants=other)})
    with pytest.raises(UserError, match=r"the shipped one trains other networks"):
        studies.publish(study_run[0], tmp_path, tmp_path)
    monkeypatch.setattr(studies, "shipped_studies", lambda: {"tiny": write_study(tmp_path, title="New words")})
    studies.publish(study_run[0], tmp_path / "numbers", tmp_path / "pages")
    assert (tmp_path / "numbers" / "tiny.json").is_file()
    assert (tmp_path / "pages" / "tiny.png").is_file()
    page = (tmp_path / "pages" / "tiny.md").read_text()
    assert page.startswith("# New words\n")
    assert "![Errors of the variants](tiny.png)" in page
