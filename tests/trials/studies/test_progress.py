"""A study tells how far its trainings are, on a terminal and where there is none, and how long the rest takes."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from tests.trials.studies.tiny_study import write_study
from trials.data import DataConfig
from trials.runs.loaded_study import LoadedStudy
from trials.runs.study_options import StudyOptions
from trials.studies.progress import StudyProgress
from trials.studies.trainings import PlannedTraining, StudyJobContext, planned_trainings
from trials.training.progress_note import NOTE, ProgressNote, ProgressNotes, read_progress

EXPECTED = {"internal": 100.0, "external": 300.0}


class Study:
    """Two variants on two seeds, of 800 planned seconds together; a clock that stands still, and what has ended."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = write_study(folder)
        options = StudyOptions.parse({"study": str(file)}, "study run")
        context = StudyJobContext(
            run_dir=folder / "run", options=options, data=DataConfig(source="digits", image_size=16), data_digest="",
            classes=10, channels=1,
        )  # fmt: skip
        self.planned = planned_trainings(LoadedStudy.load(str(file)), range(2), context)
        self.ended: set[tuple[str, int]] = set()
        self.now = 1000.0
        monkeypatch.setattr("trials.studies.progress.time", SimpleNamespace(monotonic=lambda: self.now))

    def progress(self, console: Console | None = None) -> StudyProgress:
        console = console or Console(file=io.StringIO())
        return StudyProgress(self.planned, lambda one: one.key in self.ended, EXPECTED, 2, console)

    def note(self, planned: PlannedTraining, steps: int) -> None:
        ProgressNotes(planned.directory).write(ProgressNote(steps, 100))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    return Study(tmp_path, monkeypatch)


def test_before_anything_is_done_the_plan_is_what_is_left(study: Study) -> None:
    assert study.progress()._describe() == "6 min 40 s left"


def test_running_trainings_are_named_and_the_pace_is_that_of_this_study(study: Study) -> None:
    progress = study.progress()
    study.ended.add(study.planned[0].key)
    study.note(study.planned[1], 50)
    study.now += 500.0  # for 100 + 150 of 800 planned seconds
    assert progress._describe() == "external, seed 0 (50%); 18 min 20 s left"
    study.note(study.planned[2], 10)
    study.note(study.planned[3], 0)
    assert progress._describe().startswith("external, seed 0 (50%); internal, seed 1 (10%); 1 more; ")


def test_what_an_earlier_process_did_is_no_pace(study: Study) -> None:
    study.note(study.planned[1], 50)
    progress = study.progress()
    study.now += 60.0
    assert progress._describe() == "5 min 25 s left"  # nobody works on it yet
    study.note(study.planned[1], 70)  # 60 of 650 planned seconds, in as many
    assert progress._describe() == "external, seed 0 (70%); 9 min 50 s left"


def test_lines_come_where_there_is_no_terminal(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trials.studies.progress.LINE_SECONDS", 0.01)
    text = io.StringIO()
    printed = Console(file=text, width=100)
    with study.progress(printed):
        while text.getvalue().count("\n") < 2:
            pass
    assert text.getvalue().splitlines()[:2] == ["0 of 4 trainings; 6 min 40 s left"] * 2


def test_a_terminal_has_a_bar(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trials.studies.progress.REFRESH_SECONDS", 0.01)
    text = io.StringIO()
    terminal = Console(file=text, width=100, force_terminal=True)
    progress = study.progress(terminal)
    study.note(study.planned[0], 25)
    with progress:
        while "internal, seed 0 (25%)" not in text.getvalue():
            pass
    assert "0/4" in text.getvalue()


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"steps": 2, "of": 1}', '{"steps": "1", "of": 2}'])
def test_a_note_that_cannot_be_read_is_none(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / NOTE).write_text(content)
    assert read_progress(tmp_path) is None


def test_a_note_is_due_now_and_then(tmp_path: Path) -> None:
    notes = ProgressNotes(tmp_path)
    assert notes.is_due
    notes.write(ProgressNote(3, 12))
    assert not notes.is_due
    assert read_progress(tmp_path) == ProgressNote(3, 12)
    assert ProgressNote(3, 12).fraction == 0.25
