"""The command line as the user starts it, so that commands in messages can be pasted."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import PurePath


def program_name() -> str:
    """Returns the words before the command: `sret-nas`, `python -m sret_nas`, or `python cli.py` with the path that was
    typed.
    """
    return _program(sys.argv[0] if sys.argv else "")


def typed_words(arguments: Sequence[str]) -> list[str]:
    """Returns the words to type in a shell for a recorded `sys.argv`, such as `python cli.py`, `search`, `--trials`."""
    return [_program(arguments[0]), *map(shlex.quote, arguments[1:])] if arguments else []


def _program(started: str) -> str:
    if PurePath(started).name == "cli.py":
        return f"python {shlex.quote(started)}"
    if PurePath(started).parts[-2:] == ("sret_nas", "__main__.py"):
        return "python -m sret_nas"
    return "sret-nas"


def resume_command(command: str, directory: object, *more: str) -> str:
    """Returns the command that resumes a run, such as `sret-nas search --resume runs/1`."""
    return " ".join([program_name(), *command.split(), "--resume", shlex.quote(str(directory)), *filter(None, more)])
