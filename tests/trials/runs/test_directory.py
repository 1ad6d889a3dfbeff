"""Directories of trainings: one process at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sret_nas.errors import UserError
from trials.runs import directory
from trials.runs.directory import LOCK_FILE, locked

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
        with (
            pytest.raises(UserError, match=rf"run is in use by another training \(process {first.pid} on "),
            locked(run_dir, "training"),
        ):
            pass
        first.kill()
        first.wait()
    with locked(run_dir, "training"):
        assert (run_dir / LOCK_FILE).read_text().startswith("process ")
    assert not (run_dir / LOCK_FILE).exists()


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
