"""Run directories: their names and files, and one process at a time in those of trainings."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest

from sret_nas.errors import UserError
from sret_nas.files import write_atomically
from trials.runs import directory
from trials.runs.directory import (
    LOCK_FILE,
    TRAINING,
    is_in_use,
    is_unicode,
    locked,
    new_run_dir,
    record_new_training,
    supernet_file,
    versions,
    weights_file,
)

HOLD = """
import sys
from pathlib import Path
from trials.runs.directory import locked
with locked(Path(sys.argv[1]), "training"):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_out_until_the_first_has_ended_or_was_killed(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, run_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        assert is_in_use(run_dir)
        with (
            pytest.raises(UserError, match=rf"run is in use by another training \(process {first.pid} on "),
            locked(run_dir, "training"),
        ):
            pass
        with pytest.raises(UserError, match=rf"run is in use by another training \(process {first.pid} on "):
            record_new_training(run_dir, lambda folder: pytest.fail(f"written into {folder}"))
        first.kill()
        first.wait()
    assert not is_in_use(run_dir)
    (run_dir / LOCK_FILE).write_text("what a holder that was killed on another machine left\n")
    with locked(run_dir, "training"):
        assert (run_dir / LOCK_FILE).read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
    assert not (run_dir / LOCK_FILE).exists()


def test_a_lock_that_its_holder_removes_meanwhile_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two processes could each hold the lock of a file of their own."""
    lock, removed = directory.fcntl.lockf, []

    def lock_what_is_removed(file: TextIO, operation: int) -> None:
        if not removed:  # the first holder ends just after its file was opened here
            removed.append(file.name)
            Path(file.name).unlink()
        lock(file, operation)

    monkeypatch.setattr(directory.fcntl, "lockf", lock_what_is_removed)
    with locked(tmp_path, "training"):
        assert removed == [str(tmp_path / LOCK_FILE)]
        assert (tmp_path / LOCK_FILE).read_text().startswith("process ")


def test_a_directory_whose_lock_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "run" / LOCK_FILE).mkdir(parents=True)
    with pytest.raises(UserError, match=r"run cannot be written: Is a directory"), locked(tmp_path / "run", "training"):
        pass


def test_folders_are_made_and_a_lock_that_somebody_deletes_is_no_error(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "one"
    with locked(run_dir, "training"):
        (run_dir / LOCK_FILE).unlink()
    assert list(run_dir.iterdir()) == []


def test_names_on_the_disk_stay() -> None:
    """Runs of earlier versions have them."""
    names = {name: value for name, value in vars(directory).items() if name.isupper()}
    assert names == {
        "RECORDS_FILE": "records.jsonl", "TRAINING": "training.yaml", "LANDSCAPE_FILE": "landscape.jsonl",
        "LOCK_FILE": "lock", "WEIGHTS": "weights", "SUPERNET": "supernet.safetensors", "SUPERNET_DIR": "supernet",
    }  # fmt: skip


def test_a_supernet_is_found_in_the_directory_of_its_training_or_its_search(tmp_path: Path) -> None:
    training, search, neither = (tmp_path / name for name in ("training", "search", "neither"))
    for folder in (training, search / "supernet", neither):
        folder.mkdir(parents=True)
    for folder in (training, search / "supernet"):
        (folder / "supernet.safetensors").touch()
    assert supernet_file(training) == training / "supernet.safetensors"
    assert supernet_file(search) == search / "supernet" / "supernet.safetensors"
    assert supernet_file(tmp_path / "any.file") == tmp_path / "any.file"
    with pytest.raises(UserError, match=r"neither: there is no trained supernet in this directory, neither supernet\."):
        supernet_file(neither)


def test_a_new_run_has_the_time_for_its_name_and_takes_no_other_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(directory, "time", datetime(2026, 3, 4, 5, 6, 7))  # it has `strftime`, too
    for name in ("2026-03-04-050607", "2026-03-04-050607-2", "2026-03-04-050607-3"):
        assert new_run_dir() == Path("runs") / name
        new_run_dir().mkdir(parents=True)


def test_weights_are_named_by_their_trial() -> None:
    assert weights_file(7) == "weights/trial-0007.safetensors"


def test_versions_are_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = versions()
    assert list(found) == ["python", "sret-nas", "torch", "optuna", "numpy"]
    assert found["numpy"] == np.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))

    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(directory, "version", missing)
    assert versions()["torch"] == "not installed"


def test_names_of_files_that_are_not_utf_8_are_no_unicode() -> None:
    assert is_unicode("Bücher")
    assert not is_unicode(os.fsdecode(b"B\xfccher"))


def test_a_training_is_recorded_once(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    record_new_training(run_dir, lambda folder: write_atomically(folder / TRAINING, "first"))
    with pytest.raises(UserError, match="run holds a training already: carry it on with --resume"):
        record_new_training(run_dir, lambda folder: write_atomically(folder / TRAINING, "second"))
    assert (run_dir / TRAINING).read_text() == "first"
