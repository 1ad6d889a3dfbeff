"""Messages name the command as the user started it."""

from __future__ import annotations

import sys

import pytest

from trials.program_name import program_name, resume_command, typed_words


@pytest.mark.parametrize(
    ("started", "name"),
    [
        ("cli.py", "python cli.py"),
        ("../my code/cli.py", "python '../my code/cli.py'"),
        ("/usr/bin/sret-nas", "sret-nas"),
        ("/usr/lib/sret_nas/__main__.py", "python -m sret_nas"),
        ("/home/me/__main__.py", "sret-nas"),
        ("-c", "sret-nas"),
        ("", "sret-nas"),
    ],
)
def test_the_program_is_named_as_it_was_started(started: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [started, "search"])
    assert program_name() == name
    monkeypatch.setattr(sys, "argv", [])
    assert program_name() == "sret-nas"


def test_the_command_that_resumes_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cli.py"])
    assert resume_command("search", "my runs/1") == "python cli.py search --resume 'my runs/1'"
    assert resume_command("supernet train", "runs/1", "") == "python cli.py supernet train --resume runs/1"
    assert resume_command("search", "runs/1", "--trials 9") == "python cli.py search --resume runs/1 --trials 9"


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [
        (["cli.py", "search", "--data", "my images"], "python cli.py search --data 'my images'"),
        (["/usr/lib/sret_nas/__main__.py", "train"], "python -m sret_nas train"),
        (["/usr/bin/sret-nas", "runs", "list"], "sret-nas runs list"),
        ([], ""),
    ],
)
def test_recorded_commands_can_be_pasted(arguments: list[str], typed: str) -> None:
    assert " ".join(typed_words(arguments)) == typed
