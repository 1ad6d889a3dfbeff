"""Records of a run directory that is deleted, moved or replaced during a search are kept beside."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trials.runs.small_records import CANDIDATES, FAILURE, HEADER, TEST_RESULT, result_of, write_run
from trials.lost_directory import LostDirectoryError
from trials.runs.directory import RECORDS_FILE
from trials.runs.history import read_history
from trials.runs.records import Records


def deleted(run_dir: Path) -> None:
    shutil.rmtree(run_dir)


def moved(run_dir: Path) -> None:
    run_dir.rename(run_dir.with_name("elsewhere"))


def replaced(run_dir: Path) -> None:
    shutil.copytree(run_dir, run_dir.with_name("copy"))
    shutil.rmtree(run_dir)
    run_dir.with_name("copy").rename(run_dir)


def without_records(run_dir: Path) -> None:
    (run_dir / RECORDS_FILE).unlink()


@pytest.mark.parametrize("lose", [deleted, moved, replaced, without_records])
def test_records_of_a_lost_run_directory_are_kept_beside(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    """Those from before it was lost, and the one that was about to be written; a search can be resumed from them."""
    run_dir = tmp_path / "run"
    write_run(run_dir)
    with Records(run_dir, must_exist=True) as records:
        records.reopen()
        lose(run_dir)
        with pytest.raises(
            LostDirectoryError, match=r"deleted, moved or replaced.*: sret-nas search --resume .*/run-rescued$"
        ):
            records.ended(2, result_of(CANDIDATES[2]), None, 1.0)
    history = read_history(tmp_path / "run-rescued")
    assert history.trials[0].test == TEST_RESULT
    assert history.trials[2].result == result_of(CANDIDATES[2])
    with Records(tmp_path / "run-rescued", must_exist=True) as records:
        assert records.reopen().trials.keys() == {0, 1, 2}


@pytest.mark.parametrize("lose", [deleted, moved, replaced])
def test_a_run_directory_that_is_lost_before_the_first_record(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    run_dir = tmp_path / "run"
    with Records(run_dir) as records:
        lose(run_dir)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(LostDirectoryError, match=r"run was deleted, moved or replaced.*start it again$"):
            records.start(HEADER)
        records.withdraw()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_trial_that_failed_when_the_directory_was_lost_is_left_to_be_run_again(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run-rescued").mkdir()  # of an earlier loss: it is not written over
    with Records(tmp_path / "run", must_exist=True) as records:
        records.reopen()
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(LostDirectoryError):
            records.ended(2, None, FAILURE, 1.0)
    assert not read_history(tmp_path / "run-rescued-2").trials[2].has_ended
    assert list((tmp_path / "run-rescued").iterdir()) == []


def test_records_that_cannot_be_kept_beside_are_said_to_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_run(tmp_path / "run")
    with Records(tmp_path / "run", must_exist=True) as records:
        records.reopen()
        shutil.rmtree(tmp_path / "run")
        monkeypatch.setattr("trials.runs.records.write_atomically", full)
        with pytest.raises(LostDirectoryError, match=r"cannot be kept in .*/run-rescued: No space left on device"):
            records.interrupted()


def test_records_that_something_else_wrote_to_are_noticed(tmp_path: Path) -> None:
    write_run(tmp_path)
    with Records(tmp_path, must_exist=True) as records:
        records.reopen()
        os.truncate(tmp_path / RECORDS_FILE, 100)
        with pytest.raises(LostDirectoryError, match=r"records\.jsonl was changed by something else"):
            records.interrupted()
