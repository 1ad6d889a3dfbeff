"""Copies of run directories: what is in them at any moment, what a storage that fails changes, which may be resumed."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import trials.runs.remote_copy
from cli import main
from sret_nas.errors import UserError
from tests import REPOSITORY
from trials.runs.directory import LOCK_FILE, RECORDS_FILE
from trials.runs.history import read_history
from trials.runs.option_groups import flag
from trials.runs.options import SearchOptions
from trials.runs.optuna_journal import JOURNAL_FILE
from trials.runs.remote_copy import (
    COPY_MARK,
    PROBE,
    PROBE_CONTENT,
    RunCopy,
    copied,
    fetch_run,
    is_copy,
    store_for_new_search,
    store_for_resumed_search,
    whole_lines,
)
from trials.runs.remote_storage import FolderStore, store_for
from trials.search.search import resume_search, start_search


def quiet() -> Console:
    return Console(file=io.StringIO(), width=500)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def await_that(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Waits until a condition holds that another thread or process brings about."""
    until, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < until, f"still not so after {seconds} s"
        pause.wait(0.01)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials.runs.remote_copy, "COPY_SECONDS", 0.01)
    monkeypatch.setattr(trials.runs.remote_copy, "LAST_PAUSE", 0.01)


def append(run_dir: Path, lines: bytes) -> None:
    with (run_dir / RECORDS_FILE).open("ab") as file:
        file.write(lines)


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
        assert files_in(copy) == {COPY_MARK: mark, RECORDS_FILE: b"header\nfinished 1\n", "weights/1": b"first"}

        (run_dir / "weights" / "1").unlink()
        (run_dir / "weights" / "2").write_bytes(b"second")
        append(run_dir, b" no more\n")
        await_that(lambda: (copy / "weights" / "2").is_file() and not (copy / "weights" / "1").exists())
        (run_dir / "weights" / "2").write_bytes(b"anew!!")
        (run_dir / "best.yaml").write_bytes(b"best")
    here = files_in(run_dir)
    del here[LOCK_FILE], here["weights/.2.tmp"], here[f"{JOURNAL_FILE}.lock"]
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


class TestWhereASearchMayBeCopiedTo:
    def test_a_new_one_to_where_nothing_is(self, run_dir: Path, storage: Path) -> None:
        store = store_for_new_search(str(storage), run_dir)
        assert store is not None
        assert store.address == str(storage / "r")
        assert list(storage.iterdir()) == [], "nothing is left of the look whether it can be written"
        assert store_for_new_search(None, run_dir) is None

    def test_not_to_where_another_one_is(self, run_dir: Path, storage: Path) -> None:
        copy = storage / "r"
        copy.mkdir()
        (copy / RECORDS_FILE).write_bytes(b"another header\n")
        with pytest.raises(UserError, match=f"{copy} holds a search already: carry it on with --resume {copy}, or"):
            store_for_new_search(str(storage), run_dir)
        with pytest.raises(UserError, match=f"{copy} holds another search than {run_dir}: give another --storage"):
            store_for_resumed_search(str(storage), run_dir)
        (copy / RECORDS_FILE).rename(copy / "notes.txt")
        for find in (store_for_new_search, store_for_resumed_search):
            with pytest.raises(UserError, match=rf"{copy} is not empty \(it holds notes.txt\)"):
                find(str(storage), run_dir)

    def test_to_what_a_killed_search_left(self, run_dir: Path, storage: Path) -> None:
        """One that had marked the store or probed it, and had not copied its records yet."""
        left = {COPY_MARK: b'{"copy_of": "/runs/r", "host": "here"}\n', PROBE: PROBE_CONTENT}
        for name, content in left.items():
            store_for(str(storage), "r").write(name, content)
        for find in (store_for_new_search, store_for_resumed_search):
            assert find(str(storage), run_dir) is not None
        for name, content in left.items():
            store_for(str(storage), "r").write(name, b"of somebody else")
            with pytest.raises(UserError, match=rf"is not empty \(it holds {name}\)"):
                store_for_new_search(str(storage), run_dir)
            store_for(str(storage), "r").write(name, content)

    @pytest.mark.parametrize("stored", [None, b"", b"header\n", b"header\nasked 1\n"])
    def test_a_resumed_one_to_what_it_goes_on_from(self, run_dir: Path, storage: Path, stored: bytes | None) -> None:
        append(run_dir, b"asked 1\ntorn")
        if stored is not None:
            store_for(str(storage), "r").write(RECORDS_FILE, stored)
        assert store_for_resumed_search(str(storage), run_dir) is not None
        assert store_for_resumed_search(None, run_dir) is None

    def test_but_not_to_what_is_ahead(self, run_dir: Path, storage: Path) -> None:
        append(run_dir, b"torn")
        store_for(str(storage), "r").write(RECORDS_FILE, b"header\nasked 1\nfinished 1\n")
        ahead = f"{storage / 'r'} is 2 records ahead of {run_dir}.*: carry on from there with --resume {storage / 'r'}"
        with pytest.raises(UserError, match=ahead):
            store_for_resumed_search(str(storage), run_dir)

    def test_nor_to_what_went_another_way(self, run_dir: Path, storage: Path) -> None:
        append(run_dir, b"asked 1\nasked 2\n")
        store_for(str(storage), "r").write(RECORDS_FILE, b"header\nresumed\n")
        with pytest.raises(UserError, match="the search was carried on twice: carry on from one"):
            store_for_resumed_search(str(storage), run_dir)

    def test_nor_onto_itself(self, run_dir: Path) -> None:
        with pytest.raises(UserError, match=f"--storage {run_dir.parent} is where the run directory {run_dir} itself"):
            store_for_new_search(str(run_dir.parent), run_dir)

    def test_nor_onto_itself_by_another_name(self, run_dir: Path, tmp_path: Path) -> None:
        (tmp_path / "latest").symlink_to(run_dir)
        with pytest.raises(UserError, match=f"--storage {run_dir.parent} is where the run directory .*latest itself"):
            store_for_new_search(str(run_dir.parent), tmp_path / "latest")

    def test_nor_to_where_nobody_may_write(self, run_dir: Path, storage: Path) -> None:
        (storage / "r").write_bytes(b"a file, in which even root makes no folder")
        with pytest.raises(UserError, match=f"^--storage {storage} cannot be used: .*(exists|Not a directory)"):
            store_for_new_search(str(storage), run_dir)
        with pytest.raises(UserError, match=r"cannot be used: there is no folder .*/gone: create or mount it"):
            store_for_new_search(str(storage / "gone"), run_dir)


class TestFetching:
    @pytest.fixture
    def copy(self, storage: Path) -> Path:
        store = store_for(str(storage), "r")
        for name in (COPY_MARK, RECORDS_FILE, "weights/1"):
            store.write(name, name.encode())
        return storage / "r"

    def test_all_files_come_and_the_mark_does_not(self, copy: Path, tmp_path: Path) -> None:
        console, here = quiet(), tmp_path / "not" / "here" / "yet"
        assert fetch_run(str(copy), here, console) == (here, str(copy.parent))
        assert files_in(here.parent) == {f"yet/{name}": name.encode() for name in (RECORDS_FILE, "weights/1")}
        assert text_of(console) == f"Fetching {copy} to {here}: 0.0 MB\n"
        assert is_copy(copy)
        assert not is_copy(here)
        assert is_copy("s3://bucket/1")

    def test_until_all_have_come_they_lie_in_a_hidden_folder_with_the_run_s_name(
        self, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen, read = list[str](), FolderStore.read

        def watched(store: FolderStore, name: str) -> bytes:
            seen.extend(path.name for path in (tmp_path / "here").iterdir())
            return read(store, name)

        monkeypatch.setattr(FolderStore, "read", watched)
        fetch_run(str(copy), tmp_path / "here" / "again", quiet())
        assert {name[: len(".again.")] for name in seen} == {".again."}

    def test_they_come_to_a_folder_of_the_copy_s_name(
        self, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert fetch_run(str(copy), None, quiet())[0] == Path("runs/r")
        assert (tmp_path / "runs/r" / RECORDS_FILE).is_file()

    def test_what_is_here_stays(self, copy: Path, run_dir: Path) -> None:
        before, console = files_in(run_dir), quiet()
        assert fetch_run(str(copy), run_dir, console) == (run_dir, str(copy.parent))
        assert files_in(run_dir) == before
        assert text_of(console) == f"{run_dir} is here already, so it is not fetched from {copy}\n"

    def test_all_come_or_none(self, copy: Path, tmp_path: Path) -> None:
        (tmp_path / "here").mkdir()
        (tmp_path / "here" / "notes.txt").touch()
        with pytest.raises(UserError, match=f"{copy} cannot be fetched to {tmp_path / 'here'}: .*not empty"):
            fetch_run(str(copy), tmp_path / "here", quiet())
        assert files_in(tmp_path / "here").keys() == {"notes.txt"}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "nfs"]

    def test_what_holds_no_search_is_refused(self, copy: Path, tmp_path: Path) -> None:
        (copy / RECORDS_FILE).unlink()
        with pytest.raises(UserError, match=f"{copy} holds no search: there is no {RECORDS_FILE} in it"):
            fetch_run(str(copy), tmp_path / "here", quiet())
        assert not (tmp_path / "here").exists()


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


SMALL: dict[str, Any] = {
    "space": "smoke", "max_train_images": 64, "max_val_images": 50, "max_test_images": 50, "image_size": 16,
    "batch_size": 32, "train_images": 64, "device": "cpu", "workers": 0, "seed": 3, "strategy": "random",
}  # fmt: skip
FROM_SCRATCH: dict[str, Any] = {**SMALL, "no_supernet": True, "trials": 5}
WITH_SUPERNET: dict[str, Any] = {**SMALL, "trials": 12, "supernet_images": 64, "finalists": 1, "controls": 0}

DRIVER = """
import sys
import threading
import trials.runs.remote_copy
from cli import main
from trials.runs.records import Records

trials.runs.remote_copy.COPY_SECONDS = 0.02
ended = Records.ended

def ended_and_no_more(records, number, *about):
    event = ended(records, number, *about)
    if number == 3:
        threading.Event().wait()  # for the signal that kills: the copy may be slow, the search must not be over before
    return event

Records.ended = ended_and_no_more
sys.exit(main(sys.argv[1:]))
"""


def flags(options: dict[str, Any]) -> list[str]:
    """Returns options as they are typed."""
    given = {**options}
    return (["--no-supernet"] if given.pop("no_supernet", False) else []) + [
        f"{flag(name)}={value}" for name, value in given.items()
    ]


def outcome_of(run_dir: Path) -> list[tuple[Any, ...]]:
    """Returns all that a search found, trial by trial, to the last bit."""
    return [
        (
            number, trial.candidate.key, trial.result and (trial.result.error, trial.result.cross_entropy),
            trial.test, {role: (final.error, final.test_error) for role, final in trial.finals.items()},
        )
        for number, trial in sorted(read_history(run_dir).trials.items())
    ]  # fmt: skip


def front_of(run_dir: Path) -> dict[str, Any]:
    return {path.name: yaml.safe_load(path.read_text())["architecture"] for path in (run_dir / "pareto").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(("options", "kind"), [(FROM_SCRATCH, "folder"), (WITH_SUPERNET, "bucket")])
def test_a_search_whose_machine_is_lost_is_carried_on_from_the_copy(
    request: pytest.FixtureRequest, tmp_path: Path, options: dict[str, Any], kind: str
) -> None:
    """The driver is killed as soon as the copy knows of two trials, and its run directory is deleted."""
    whole = start_search(SearchOptions.parse(options, "search"), tmp_path / "whole", ["test"], quiet())
    storage = str(tmp_path) if kind == "folder" else f"{request.getfixturevalue('bucket')}/some/runs"
    lost, store = tmp_path / "first machine" / "r", store_for(storage, "r")
    command = [sys.executable, "-c", DRIVER, "search", *flags(options), f"--out={lost}", f"--storage={storage}"]
    driver = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=REPOSITORY, start_new_session=True
    )
    try:
        await_that(lambda: store.size(RECORDS_FILE) is not None and store.read(RECORDS_FILE).count(b'"finished"') >= 2)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    shutil.rmtree(lost.parent)

    here, console = tmp_path / "second machine" / "r", quiet()
    fetched, _ = fetch_run(store.address, here, console)
    before = len(whole_lines((fetched / RECORDS_FILE).read_bytes()).splitlines())
    resume_search(fetched, {}, console)
    assert outcome_of(here) == outcome_of(whole.run_dir)
    assert front_of(here) == front_of(whole.run_dir)
    assert json.loads((here / RECORDS_FILE).read_bytes().splitlines()[before])["event"] == "resumed"

    files = files_in(here)
    del files[LOCK_FILE]
    assert {name: store.read(name) for name in store.sizes() if name != COPY_MARK} == files
    assert f"Copy: {store.address}\n" in text_of(console)


@pytest.mark.slow
def test_images_must_be_where_they_were_or_be_named(tmp_path: Path, storage: Path) -> None:
    from PIL import Image

    images = tmp_path / "images"
    for label in range(2):
        (images / str(label)).mkdir(parents=True)
        for number in range(20):
            Image.new("L", (8, 8), 12 * number + label).save(images / str(label) / f"{number}.png")
    options = {**FROM_SCRATCH, "trials": 1, "data": str(images), "storage": str(storage)}
    start_search(SearchOptions.parse(options, "search"), tmp_path / "first" / "r", ["test"], quiet())
    images.rename(tmp_path / "elsewhere")
    here, _ = fetch_run(str(storage / "r"), tmp_path / "second" / "r", quiet())
    before = files_in(storage)
    with pytest.raises(UserError, match=r"images: .* \(a resumed search needs its images: where they were"):
        resume_search(here, {}, quiet())
    assert files_in(storage) == before
    run = resume_search(here, {"data": str(tmp_path / "elsewhere")}, quiet())
    assert run.options.data == str(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("ftp://host/runs", "search: --storage: must be a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, got 'ftp"),
        ("s3://a:b@c/runs", "must not hold credentials"),
        ("nowhere/runs", "cannot be used: there is no folder"),
        ("BUCKET-2/runs", "/runs cannot be used: When .* AWS Error NO_SUCH_BUCKET"),
    ],
)
def test_a_storage_that_cannot_be_is_one_line_before_anything_begins(
    bucket: str, tmp_path: Path, storage: str, message: str, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In a line of all that the process prints, and so of what Arrow itself prints, too."""
    storage, out = storage.replace("BUCKET", bucket), tmp_path / "r"
    monkeypatch.chdir(tmp_path)
    code = main(["search", *flags(FROM_SCRATCH), f"--out={out}", f"--storage={storage}"])
    printed = capfd.readouterr()
    assert (code, printed.out) == (2, "")
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../stolen", "/tmp/stolen-by-a-bucket", "weights/../../stolen"])
def test_names_from_a_storage_cannot_leave_the_run_directory(
    tmp_path: Path, storage: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a bucket says that it holds."""

    class Hostile(FolderStore):
        def sizes(self) -> dict[str, int]:
            return {RECORDS_FILE: 7, name: 1}

        def read(self, name: str) -> bytes:
            return b"header\n"

    monkeypatch.setattr(trials.runs.remote_copy, "store_for", lambda storage, name: Hostile(Path(storage) / name))
    with pytest.raises(UserError, match=r"cannot be fetched to .*: it names a file '.*', which is not inside"):
        fetch_run(str(storage / "r"), tmp_path / "out" / "r", quiet())
    assert list((tmp_path / "out").iterdir()) == []
    assert not Path("/tmp/stolen-by-a-bucket").exists()


@pytest.mark.parametrize("address", ["s3://b/runs?secret_key=SECRET", "s3://b?endpoint_override=http://user:SECRET@h"])
def test_secrets_reach_neither_messages_nor_records(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--storage", address, "--trials", "1", "--out", str(tmp_path / "r")]) == 2
    assert main(["search", "--resume", address, "--out", str(tmp_path / "r3")]) == 2
    told = capsys.readouterr()
    assert "SECRET" not in (told.out + told.err).replace("AWS_SECRET_ACCESS_KEY", "")
    assert files_in(tmp_path) == {}
