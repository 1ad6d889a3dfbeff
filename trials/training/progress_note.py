"""How far a training is: a small file in its folder, for a process that waits for it, here or on another machine."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from sret_nas.errors import UserError
from sret_nas.files import write_atomically
from sret_nas.json_files import read_json

NOTE = "progress.json"
"""The file's name."""

NOTE_SECONDS = 5.0
"""Between two notes of a training."""


@dataclass(frozen=True)
class ProgressNote:
    """How far a training is."""

    steps: int
    of: int
    """Steps of the whole training."""

    @property
    def fraction(self) -> float:
        """The part of the steps that is done, 0 to 1."""
        return self.steps / self.of


class ProgressNotes:
    """Notes of one training, at most one in `NOTE_SECONDS`."""

    def __init__(self, directory: Path) -> None:
        self._path, self._next = directory / NOTE, 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._next

    def write(self, note: ProgressNote) -> None:
        """Replaces the last note."""
        write_atomically(self._path, json.dumps(asdict(note)))
        self._next = time.monotonic() + NOTE_SECONDS


def read_progress(directory: Path) -> ProgressNote | None:
    """Returns the note of a training; None if there is none that can be read, which a reader can do without."""
    try:
        content = read_json(directory / NOTE)
    except (UserError, OSError):
        return None
    match content:
        case {"steps": int(steps), "of": int(of)} if 0 <= steps <= of and of > 0:
            return ProgressNote(steps, of)
    return None
