"""Copies of run directories: what is in them at any moment, and what a storage that fails changes."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import trials.runs.remote_copy
from tests.trials.runs.copied_runs import append, await_that, files_in, quiet, text_of
from trials.runs.directory import LOCK_FILE, RECORDS_FILE
from trials.runs.optuna_journal import JOURNAL_FILE
from trials.runs.remote_copy import COPY_MARK, RunCopy, copied, whole_lines
from trials.runs.remote_storage import FolderStore, store_for

pytestmark = pytest.mark.usefixtures("impatient")


def test_the_copy_follows_the_run_directory(run_dir: Path, storage: Path) -> None:
    copy, console = storage / "r", quiet()
    (run_dir / "weights" / "1").write_bytes(b"first")
    (run_dir / "weights" / ".2.tmp").write_bytes(b"half")
    (run_dir / JOURNAL_FILE).write_bytes(b"study")
    (run_dir / f"{JOURNAL_FILE}.lock").touch()
    append(run_dir, b"finished 1\ntorn")
    with copied(store_for(str(storage), "r"), run_dir, console):
        await_that(lambda: (copy / RECORDS_FILE).is_file() and len((copy / RECORDS_FILE).read_bytes()) > 7)
        mark = (copy / COPY_MARK).read_bytes()
        assert json.loads(mark)["copy_of"] == str(run_dir)
        assert json.loads(mark)["files"] == ["weights/1"]
        assert files_in(copy) == {COPY_MARK: mark, RECORDS_FILE: b"header\nfinished 1\n", "weights/1": b"first"}

        (run_dir / "weights" / "1").unlink()
        (run_dir / "weights" / "2").write_bytes(b"second")
        append(run_dir, b" no more\n")
        await_that(lambda: (copy / "weights" / "2").is_file() and not (copy / "weights" / "1").exists())
        (run_dir / "weights" / "2").write_bytes(b"anew!!")
        (run_dir / "best.yaml").write_bytes(b"best")
    here = files_in(run_dir)
    del here[LOCK_FILE], here["weights/.2.tmp"], here[f"{JOURNAL_FILE}.lock"]
    mark = (copy / COPY_MARK).read_bytes()
    assert "weights/2" in json.loads(mark)["files"]
    assert files_in(copy) == {**here, COPY_MARK: mark}
    assert here[RECORDS_FILE] == b"header\nfinished 1\ntorn no more\n"
    assert text_of(console) == f"Copy: {copy}\n"


@pytest.mark.parametrize("folder", ["weights", "pareto", "recommended", "checkpoints", "tensorboard"])
def test_what_a_search_deletes_goes_from_the_copy_too(folder: str, run_dir: Path, storage: Path) -> None:
    gone, kept = run_dir / folder / "old", run_dir / "trials.csv"
    for path in (gone, kept):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"once")
    with copied(store_for(str(storage), "r"), run_dir, quiet()):
        await_that(lambda: {f"{folder}/old", "trials.csv"} <= files_in(storage / "r").keys())
        gone.unlink()
        kept.unlink()
        await_that(lambda: f"{folder}/old" not in files_in(storage / "r"))
    assert "trials.csv" in files_in(storage / "r")  # results are never deleted


def test_what_lies_in_the_copy_alone_stays(run_dir: Path, storage: Path) -> None:
    """Also in later sessions, of which the first deletes what the search deleted after it was killed."""
    (run_dir / "weights" / "1").write_bytes(b"first")
    for session in ("first", "second", "third"):
        with copied(store_for(str(storage), "r"), run_dir, quiet()):
            await_that(lambda: (storage / "r" / RECORDS_FILE).is_file())
        (storage / "r" / "weights").mkdir(exist_ok=True)
        (storage / "r" / "weights" / f"mine-{session}").write_bytes(b"of a user")
        (run_dir / "weights" / "1").unlink(missing_ok=True)
    kept = {f"weights/mine-{session}" for session in ("first", "second", "third")}
    assert files_in(storage / "r").keys() == {COPY_MARK, RECORDS_FILE, *kept}


@pytest.mark.parametrize(
    "mark", [b'{"copy_of": "/runs/r", "host": "here"}\n', b'{"copy_of": ', b"[]", b'{"files": [["weights/mine"], 1]}']
)
def test_a_mark_that_lists_no_files_lets_none_be_deleted(run_dir: Path, storage: Path, mark: bytes) -> None:
    """As that of an earlier version."""
    store = store_for(str(storage), "r")
    for name, content in ((COPY_MARK, mark), (RECORDS_FILE, b"header\n"), ("weights/mine", b"of a user")):
        store.write(name, content)
    with copied(store, run_dir, quiet()):
        pass
    assert files_in(storage / "r").keys() == {COPY_MARK, RECORDS_FILE, "weights/mine"}


def test_without_a_storage_there_is_no_copy(run_dir: Path) -> None:
    console = quiet()
    with copied(None, run_dir, console):
        pass
    assert text_of(console) == ""


class Watched(FolderStore):
    """Remembers what was done, and does it slowly, or not at all, if it is to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.done: list[str] = []
        self.error: OSError | None = None
        self.before_write: Callable[[str], object] = lambda name: None

    def write(self, name: str, content: bytes) -> None:
        self.before_write(name)
        if self.error is not None:
            self.done.append(f"failed {name}")
            raise self.error
        super().write(name, content)
        self.done.append(f"write {name} {len(content)}")

    def delete(self, name: str) -> None:
        super().delete(name)
        self.done.append(f"delete {name}")


def test_what_records_name_is_there_before_them(run_dir: Path, storage: Path) -> None:
    """Also what was put on record while files were being copied, and what was deleted then."""
    store = Watched(storage / "r")
    (run_dir / "weights" / "1").write_bytes(b"1")
    (run_dir / "weights" / "2").write_bytes(b"2")
    append(run_dir, b"finished 1\nfinished 2\n")

    def go_on(name: str) -> None:
        """Goes on: the next trial beats the first while that is being copied."""
        if name == "weights/1" and not (run_dir / "weights" / "3").exists():
            (run_dir / "weights" / "3").write_bytes(b"3")
            append(run_dir, b"finished 3\n")
            (run_dir / "weights" / "1").unlink()

    store.before_write = go_on
    with copied(store, run_dir, quiet()):
        pass
    assert [line for line in store.done if COPY_MARK not in line] == [
        f"write {RECORDS_FILE} 7",
        "write weights/1 1",
        "write weights/2 1",
        f"write {RECORDS_FILE} {7 + 2 * 11}",
        "write weights/3 1",
        f"write {RECORDS_FILE} {7 + 3 * 11}",
        "delete weights/1",
    ]


def test_a_storage_that_fails_for_a_while_costs_one_line(run_dir: Path, storage: Path) -> None:
    store, console = Watched(storage / "r"), quiet()
    with copied(store, run_dir, console):
        await_that(lambda: (storage / "r" / RECORDS_FILE).is_file())
        store.error = OSError("the network\nis gone")
        append(run_dir, b"asked 1\n")
        await_that(lambda: sum("failed" in line for line in store.done) >= 3)
        store.error = None
    warning, last = text_of(console).splitlines()
    assert warning == f"warning: the copy at {store.address} cannot be written now; trying again: the network is gone"
    assert last == f"Copy: {store.address}"
    assert (storage / "r" / RECORDS_FILE).read_bytes() == b"header\nasked 1\n"


@pytest.mark.parametrize(("ending", "attempts"), [(None, 3), (KeyboardInterrupt(), 1)])
def test_a_storage_that_fails_to_the_end_is_told_and_harms_nothing(
    run_dir: Path, storage: Path, monkeypatch: pytest.MonkeyPatch, ending: BaseException | None, attempts: int
) -> None:
    """It is tried again for those who wait, and not for those who pressed Ctrl-C."""
    monkeypatch.setattr(trials.runs.remote_copy, "COPY_SECONDS", 3600.0)
    store, console = Watched(storage / "r"), quiet()
    copy = RunCopy(store, run_dir, console)
    copy.__enter__()
    await_that(lambda: len(store.done) == 3)  # the mark, the first line, all lines
    (run_dir / "best.yaml").write_bytes(b"best")
    store.error = PermissionError("not allowed")
    copy.__exit__(None if ending is None else type(ending), ending, None)
    assert store.done[3:] == ["failed best.yaml"] * attempts
    warning, last = text_of(console).splitlines()
    assert warning == f"warning: the copy at {store.address} cannot be written now; trying again: not allowed"
    assert last == (
        f"warning: the copy of {run_dir} at {store.address} is not whole: not allowed; to copy it again: "
        f"sret-nas search --resume {run_dir}"
    )
    assert files_in(storage / "r").keys() == {COPY_MARK, RECORDS_FILE}


def test_a_storage_that_hangs_stops_nobody(run_dir: Path, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials.runs.remote_copy, "LAST_SECONDS", 0.2)
    store, console, released = Watched(storage / "r"), quiet(), threading.Event()
    store.before_write = lambda name: released.wait()
    with copied(store, run_dir, console) as copy:
        pass
    assert text_of(console) == (
        f"warning: the copy of {run_dir} at {store.address} is not whole: nothing could be written for 0.2 s; to copy "
        f"it again: sret-nas search --resume {run_dir}\n"
    )
    released.set()
    assert isinstance(copy, RunCopy)
    copy._thread.join()


def test_a_storage_whose_copy_is_gone_is_not_filled_by_halves(run_dir: Path, storage: Path) -> None:
    """As when a share is unmounted, and the folder under it comes to light."""
    store, console = Watched(storage / "r"), quiet()
    with copied(store, run_dir, console):
        await_that(lambda: len(store.done) == 3)
        shutil.rmtree(storage / "r")
        append(run_dir, b"asked 1\n")
    assert list(storage.iterdir()) == []
    assert f"is not whole: its {RECORDS_FILE} is gone; to copy it again" in text_of(console)


def test_what_another_search_wrote_is_left_alone(run_dir: Path, storage: Path) -> None:
    """Say this driver's machine was thought lost, and the search was carried on from the copy."""
    store, console = Watched(storage / "r"), quiet()
    with copied(store, run_dir, console):
        await_that(lambda: len(store.done) == 3)
        (storage / "r" / RECORDS_FILE).write_bytes(b"header\nresumed elsewhere\n")
        append(run_dir, b"asked 1\n")
        (run_dir / "best.yaml").write_bytes(b"best")
    assert files_in(storage / "r").keys() == {COPY_MARK, RECORDS_FILE}
    assert (storage / "r" / RECORDS_FILE).read_bytes() == b"header\nresumed elsewhere\n"
    warning, last = text_of(console).splitlines()
    assert warning.startswith(f"warning: the copy at {store.address} is left alone from here on: ")
    assert "went different ways" in last
    assert "to copy it again" not in last


def test_a_lost_answer_is_no_other_search(run_dir: Path, storage: Path) -> None:
    """Records were written, and the store's answer never came: what is there is ours."""
    store, console = Watched(storage / "r"), quiet()
    with copied(store, run_dir, console):
        await_that(lambda: len(store.done) == 3)
        (storage / "r" / RECORDS_FILE).write_bytes(b"header\nasked 1\n")
        append(run_dir, b"asked 1\nfinished 1\n")
    assert (storage / "r" / RECORDS_FILE).read_bytes() == b"header\nasked 1\nfinished 1\n"
    assert text_of(console) == f"Copy: {store.address}\n"


def test_a_copy_that_succeeds_at_once_waits_for_nothing(
    run_dir: Path, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials.runs.remote_copy, "LAST_PAUSE", 3600.0)
    monkeypatch.setattr(trials.runs.remote_copy, "LAST_SECONDS", 30.0)
    console = quiet()
    with copied(store_for(str(storage), "r"), run_dir, console):
        pass
    assert text_of(console) == f"Copy: {storage / 'r'}\n"


def test_only_whole_lines_count() -> None:
    assert [whole_lines(content) for content in (b"", b"torn", b"a\n", b"a\nb\ntorn")] == [b"", b"", b"a\n", b"a\nb\n"]
