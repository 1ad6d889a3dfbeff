"""The kinds of run directories, so that a command that is given one of another kind names the command that takes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from sret_nas.bounded_files import open_regular
from sret_nas.errors import UserError

from .directory import LANDSCAPE_FILE, RECORDS_FILE, TRAINING

RunKind = Literal["search", "study", "landscape", "training of a network", "training of a supernet"]

_TAKEN_BY: dict[RunKind, str] = {
    "search": "`runs show` shows it and `search --resume` carries it on",
    "study": "`study show` shows it and `study run --resume` carries it on",
    "landscape": "`landscape --resume` carries it on",
    "training of a network": "`train --resume` carries it on, and `evaluate` takes what it trained",
    "training of a supernet": "`supernet train --resume` carries it on, and `search --supernet` takes what it trained",
}
_FIRST_BYTES = 4096


def kind_of_run(directory: Path) -> RunKind | None:
    """Returns what a directory holds, as far as the beginnings of its files say; None if it is no run's."""
    if _beginning(directory / LANDSCAPE_FILE):
        return "landscape"
    if records := _beginning(directory / RECORDS_FILE):
        return "study" if b'"event": "study header"' in records[:100] else "search"
    if training := _beginning(directory / TRAINING):
        key = re.search(rb"^(architecture|config):", training, re.MULTILINE)
        return (
            None if key is None else "training of a network" if key[1] == b"architecture" else "training of a supernet"
        )
    return None


def instead(directory: Path, wanted: RunKind) -> str:
    """Returns the ending of a message about a directory without a run of the wanted kind: what it holds, if anything.

    It is empty, or begins with `; it holds` and names the command that takes the directory.
    """
    kind = kind_of_run(directory)
    return "" if kind is None or kind == wanted else f"; it holds a {kind}: {_TAKEN_BY[kind]}"


def _beginning(path: Path) -> bytes:
    """Returns the first bytes of a file; none if it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(_FIRST_BYTES)
    except (UserError, OSError):
        return b""
