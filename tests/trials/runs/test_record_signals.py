"""Records of a search when signals come, and when others look who holds them."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path
from typing import Any

import pytest

from sret_nas.errors import UserError
from trials.interruption import StepAborted
from trials.runs import records as module
from trials.runs.directory import LOCK_FILE
from trials.runs.history import read_history
from trials.runs.record_file import LineFile
from trials.runs.records import HEADER_KEYS, Records

HEADER = {key: {"of": key} for key in HEADER_KEYS} | {"command": ["search"]}


def test_a_second_signal_in_an_append_leaves_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = LineFile._write

    def write_and_abort(*arguments: Any) -> None:
        write(*arguments)
        raise StepAborted

    with Records(tmp_path) as records:
        records.start(HEADER)
        before = (tmp_path / "records.jsonl").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(LineFile, "_write", write_and_abort)
            with pytest.raises(StepAborted):
                records.resumed({}, {})
        assert (tmp_path / "records.jsonl").read_bytes() == before
        records.interrupted()
        records.require_in_place()
    assert read_history(tmp_path).trials == {}


def test_who_looks_for_an_instant_keeps_no_search_from_beginning(tmp_path: Path) -> None:
    """`runs list` holds the lock while it asks whether a search is running."""
    with open(tmp_path / LOCK_FILE, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        timer = threading.Timer(0.05, fcntl.flock, (file, fcntl.LOCK_UN))
        timer.start()
        with Records(tmp_path) as records:
            records.start(HEADER)
        timer.join()


def test_who_holds_the_lock_keeps_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.0)
    with open(tmp_path / LOCK_FILE, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(UserError, match="is in use by another search"):
            Records(tmp_path)
