"""A full disk: what it does to files, and what a user is told."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sret_nas.errors import UserError
from sret_nas.files import write_atomically
from tests.full_disk import largest_file
from trials.engines.failures import failure_of, is_full
from trials.engines.results import Failure
from trials.runs.directory import RECORDS_FILE
from trials.runs.full_disk import (
    StorageError,
    full_disk_explained,
    raise_if_full,
    raise_if_nothing_can_be_recorded,
    recorded_in,
    writing,
)
from trials.runs.history import read_history
from trials.runs.options import SearchOptions
from trials.runs.records import HEADER_KEYS, Records
from trials.search.search import resume_search, start_search

OPTIONS: dict[str, Any] = {
    "space": "smoke", "no_supernet": True, "trials": 2, "seed": 5, "max_train_images": 64, "max_val_images": 50,
    "max_test_images": 50, "image_size": 32, "train_images": 64, "device": "cpu", "workers": 0, "strategy": "random",
}  # fmt: skip


def test_a_file_without_room_is_named_and_its_old_content_stays(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    write_atomically(path, "old")
    with largest_file(10), pytest.raises(OSError, match="File too large") as caught:
        write_atomically(path, "longer than that")
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_that_is_full_is_full() -> None:
    full = Path("/dev/full")
    with pytest.raises(OSError, match="No space") as caught, writing(full), full.open("wb", buffering=0) as file:
        file.write(b"x")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")
    assert is_full(caught.value)
    failure = failure_of(caught.value)
    assert (failure.cause, failure.message) == ("disk full", "[Errno 28] No space left on device: '/dev/full'")
    with pytest.raises(StorageError, match=r"a worker cannot write its files: .*No space left"):
        raise_if_full(failure)


def test_a_disk_that_became_read_only_is_told_as_that(tmp_path: Path) -> None:
    """Linux does that to a disk with errors. What is written cannot even be cut off again."""
    error = OSError(errno.EROFS, os.strerror(errno.EROFS), "run/records.jsonl")
    assert failure_of(error).cause == "disk full"
    with (
        pytest.raises(StorageError, match=r"written: Read-only file system; .*: make it writable, then carry"),
        full_disk_explained("sret-nas search --resume run", "trials are safe"),
    ):
        raise error
    with Records(tmp_path / "run") as records:
        records.start({key: {} for key in HEADER_KEYS} | {"command": []})
        read_only = os.open(tmp_path / "run" / RECORDS_FILE, os.O_RDONLY)
        assert records._file is not None
        os.dup2(read_only, records._file.descriptor)
        os.close(read_only)
        with pytest.raises(StorageError):
            records.interrupted()


def test_other_errors_of_the_system_are_no_full_disk() -> None:
    missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x")
    assert failure_of(missing).cause == "exception"
    with pytest.raises(FileNotFoundError), full_disk_explained("sret-nas search --resume run", "trials are safe"):
        raise missing
    raise_if_full(failure_of(missing))


@pytest.mark.parametrize(
    ("resume", "kept", "advice"),
    [
        (None, "the search has not begun", "the search has not begun: make room, then start it again"),
        (
            "sret-nas study run --resume runs/1",
            recorded_in(Path("runs/1")),
            "all that was recorded until then is safe in runs/1: make room, then carry on with: "
            "sret-nas study run --resume runs/1",
        ),
    ],
)
def test_the_message_says_what_is_safe(resume: str | None, kept: str, advice: str) -> None:
    with pytest.raises(StorageError) as caught, full_disk_explained(resume, kept):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/1/front.png")
    assert str(caught.value) == f"runs/1/front.png cannot be written: No space left on device; {advice}"


def test_a_file_that_the_system_names_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, writing(tmp_path / "other"):
        (tmp_path / "none" / "file").write_text("x")
    assert caught.value.filename == str(tmp_path / "none" / "file")


def test_a_full_disk_of_a_worker_is_explained_as_well() -> None:
    with pytest.raises(StorageError) as caught, full_disk_explained(None, "the search has not begun"):
        raise_if_full(Failure(cause="disk full", message="no room"))
    assert str(caught.value) == (
        "a worker cannot write its files: no room; the search has not begun: make room, then start it again"
    )


def test_failures_that_are_not_the_trial_s_own_end_the_search() -> None:
    with pytest.raises(StorageError, match=r"^a worker cannot write its files: no room$"):
        raise_if_nothing_can_be_recorded(Failure(cause="disk full", message="no room"))
    with pytest.raises(
        UserError, match=r"^a\.png has changed; no result that used them was recorded: --resume prepares "
    ):
        raise_if_nothing_can_be_recorded(Failure(cause="images changed", message="a.png has changed"))
    raise_if_nothing_can_be_recorded(Failure(cause="diverged", message="so it is"))
    raise_if_nothing_can_be_recorded(None)


def found(run_dir: Path) -> list[Any]:
    trials = read_history(run_dir).trials
    return [(t.candidate.key, t.result and t.result.error, t.test) for _, t in sorted(trials.items())]


@pytest.mark.slow
def test_a_search_that_meets_a_full_disk_ends_in_one_line_and_carries_on(tmp_path: Path) -> None:
    """No file may grow beyond almost the header, two lines and a bit of the next, or less than weights need."""
    whole = start_search(
        SearchOptions.parse(OPTIONS, "search"), tmp_path / "whole", ["test"], Console(file=io.StringIO())
    )
    records = (whole.run_dir / RECORDS_FILE).read_bytes().splitlines(keepends=True)
    for room, file in (
        (len(records[0]) - 20, RECORDS_FILE),
        (len(records[0] + records[1]) + 20, RECORDS_FILE),
        (2 * len(b"".join(records)), "weights/trial-0000.safetensors"),
    ):
        run_dir = tmp_path / str(room)
        with largest_file(room), pytest.raises(StorageError) as caught:
            start_search(SearchOptions.parse(OPTIONS, "search"), run_dir, ["test"], Console(file=io.StringIO()))
        message = str(caught.value)
        assert str(run_dir / file) in message
        assert "\n" not in message
        if room < len(records[0]):
            assert message.endswith("the search has not begun: make room, then start it again")
            assert not run_dir.exists()
            continue
        assert message.endswith(f"sret-nas search --resume {run_dir}")
        assert (run_dir / RECORDS_FILE).read_bytes().endswith(b"}\n")
        resume_search(run_dir, {}, Console(file=io.StringIO()))
        assert found(run_dir) == found(whole.run_dir)
