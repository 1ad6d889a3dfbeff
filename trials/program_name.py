"""How the user started this program, so that messages name a command that works when it is pasted."""

from __future__ import annotations

import shlex
import sys
from pathlib import PurePath


def program_name() -> str:
    """Returns the words before the command: `sret-nas`, `python -m sret_nas`, or `python cli.py` with the path that was
    typed.
    """
    started = sys.argv[0] if sys.argv else ""
    if PurePath(started).name == "cli.py":
        return f"python {shlex.quote(started)}"
    if PurePath(started).parts[-2:] == ("sret_nas", "__main__.py"):
        return "python -m sret_nas"
    return "sret-nas"


def resume_command(command: str, directory: object, *more: str) -> str:
    """Returns the line that carries on a run: `resume_command("search", "runs/1")` is
    `sret-nas search --resume runs/1`.
    """
    return " ".join([program_name(), *command.split(), "--resume", shlex.quote(str(directory)), *filter(None, more)])
