"""Where a search may be copied to, and what is fetched from a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

import trials.runs.remote_copy
from cli import main
from sret_nas.errors import UserError
from tests.trials.runs.copied_runs import append, files_in, quiet, text_of
from trials.runs.directory import RECORDS_FILE
from trials.runs.remote_copy import (
    COPY_MARK,
    PROBE,
    PROBE_CONTENT,
    fetch_run,
    is_copy,
    store_for_new_search,
    store_for_resumed_search,
)
from trials.runs.remote_storage import FolderStore, store_for


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

    def test_a_file_of_a_user_s_survives_the_look_whether_it_can_be_written(self, run_dir: Path, storage: Path) -> None:
        store = store_for(str(storage), "r")
        users = {RECORDS_FILE: b"header\n", PROBE: b"of a user", f"{PROBE}-2": b"another"}
        for name, content in users.items():
            store.write(name, content)
        assert store_for_resumed_search(str(storage), run_dir) is not None
        assert files_in(storage / "r") == users

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
