"""Options with a new name still answer to the old one, say so, and hide it."""

from __future__ import annotations

import pytest

from cli import create_parser

SEARCH, TRAIN = ["search"], ["supernet", "train"]

RENAMED = [
    (SEARCH, "--rivals", "--controls", "1"),
    (SEARCH, "--score-images", "--val-images-per-trial", "5"),
    (TRAIN, "--rule", "--step-rule", "single"),
    (TRAIN, "--draws", "--subnet-sampling", "uniform"),
    (TRAIN, "--accumulate", "--gradient-accumulation", "2"),
    *(
        (command, f"--max-{part}", f"--max-{part}-images", "9")
        for command in (SEARCH, TRAIN)
        for part in ("train", "val", "test")
    ),
]


@pytest.mark.parametrize(("command", "old", "new", "value"), RENAMED, ids=[f"{r[0][-1]} {r[1]}" for r in RENAMED])
def test_the_old_name_means_the_new_one(
    command: list[str], old: str, new: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parsed = vars(create_parser().parse_args([*command, new, value]))
    assert capsys.readouterr().err == ""
    assert vars(create_parser().parse_args([*command, old, value])) == parsed
    assert capsys.readouterr().err == f"warning: {old} is now called {new}; the next version drops the old name\n"


@pytest.mark.parametrize(("command", "old"), [(row[0], row[1]) for row in RENAMED])
def test_help_does_not_show_the_old_name(command: list[str], old: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        create_parser().parse_args([*command, "--help"])
    shown = capsys.readouterr().out
    assert "--seed N" in shown
    assert f"{old} " not in shown
