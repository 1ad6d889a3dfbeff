"""A run directory of another kind is named with the command that takes it, by all commands alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.foreign_files.runs import KINDS
from tests.foreign_files.small import with_checksums
from trials.command_line.main import main
from trials.runs.directory import LANDSCAPE_FILE, RECORDS_FILE, TRAINING
from trials.runs.run_kinds import RunKind, instead, kind_of_run

FILES: dict[RunKind, tuple[str, str]] = {
    "search": ("records", RECORDS_FILE),
    "study": ("records of a study", RECORDS_FILE),
    "landscape": ("record of a landscape", LANDSCAPE_FILE),
    "training of a network": ("training", TRAINING),
    "training of a supernet": ("training of a supernet", TRAINING),
}
TAKEN_BY: dict[RunKind, list[list[str]]] = {
    "search": [["search", "--resume"], ["runs", "show"], ["runs", "pick", "--flops=1G"]],
    "study": [["study", "run", "--resume"], ["study", "show"]],
    "landscape": [["landscape", "--resume"]],
    "training of a network": [["train", "--resume"]],
    "training of a supernet": [["supernet", "train", "--resume"]],
}


def run_dir_of(kind: RunKind, folder: Path) -> Path:
    what, name = FILES[kind]
    (folder / "run").mkdir()
    (folder / "run" / name).write_bytes(with_checksums(KINDS[what].good()))
    return folder / "run"


@pytest.mark.parametrize("wanted", FILES)
@pytest.mark.parametrize("kind", FILES)
def test_the_command_that_takes_a_directory_is_named(
    kind: RunKind, wanted: RunKind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = run_dir_of(kind, tmp_path)
    assert kind_of_run(run_dir) == kind
    if kind == wanted:
        assert instead(run_dir, wanted) == ""
        return
    for command in TAKEN_BY[wanted]:
        assert main([*command, str(run_dir)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"; it holds a {kind}: `" in line
        assert f"`{' '.join(word for word in TAKEN_BY[kind][0])}`" in line


def test_what_is_no_run_has_no_kind(tmp_path: Path) -> None:
    assert kind_of_run(tmp_path) is None
    (tmp_path / TRAINING).write_text("a: 1\n")
    (tmp_path / LANDSCAPE_FILE).mkdir()
    assert kind_of_run(tmp_path) is None
    assert instead(tmp_path, "search") == ""


def test_a_new_search_does_not_call_a_study_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = run_dir_of("study", tmp_path)
    assert main(["search", "--out", str(run_dir)]) == 2
    assert "is not empty; it holds a study: `study show` shows it" in capsys.readouterr().err
