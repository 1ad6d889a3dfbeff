"""What tests of run directories and their copies may use."""

from __future__ import annotations

from pathlib import Path

import pytest

import trials.runs.remote_copy
from trials.runs.directory import LOCK_FILE, RECORDS_FILE


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Returns what a search leaves that was begun, as far as copies look into it."""
    folder = tmp_path / "runs" / "r"
    (folder / "weights").mkdir(parents=True)
    (folder / RECORDS_FILE).write_bytes(b"header\n")
    (folder / LOCK_FILE).write_bytes(b"process 1")
    return folder


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    folder = tmp_path / "nfs"
    folder.mkdir()
    return folder


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials.runs.remote_copy, "COPY_SECONDS", 0.01)
    monkeypatch.setattr(trials.runs.remote_copy, "LAST_PAUSE", 0.01)
