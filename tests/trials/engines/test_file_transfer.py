"""Files of a job: stored by the driver, extracted once on the machine where the job runs."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import trials.engines.file_transfer as file_transfer
from trials.engines.file_transfer import BundleWriter, FileBundle, value_at, with_values
from trials.engines.node_cache import NodeCache, default_folder


class Store:
    """A store of numbered chunks, which counts how often each is fetched."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.num_fetched = 0

    def put(self, chunk: bytes) -> int:
        self.chunks.append(chunk)
        return len(self.chunks) - 1

    def fetch(self, number: int) -> bytes:
        self.num_fetched += 1
        return self.chunks[number]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(file_transfer, "CHUNK_BYTES", 4)
    return Store()


def job(folder: Path, **fields: Any) -> dict[str, Any]:
    return {"kind": "trial", "data_dir": str(folder), "supernet": None, "weights_path": None, **fields}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Returns a folder with an empty file and one of two and a half chunks."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "data.json").write_bytes(b"")
    (folder / "images.npy").write_bytes(b"0123456789")
    return folder


def bundle_of(content: bytes, store: Store, folder: Path) -> FileBundle:
    path = folder / f"{content.hex()}.bin"
    path.write_bytes(content)
    return BundleWriter(store.put).write(job(folder / "none", supernet={"path": str(path)})).bundles["supernet", "path"]


def test_what_is_stored_arrives_as_it_was(store: Store, data_dir: Path, tmp_path: Path) -> None:
    supernet = tmp_path / "net.safetensors"
    supernet.write_bytes(b"weights")
    files = BundleWriter(store.put).write(job(data_dir, supernet={"path": str(supernet), "digest": "d"}))
    assert store.chunks == [b"0123", b"4567", b"89", b"weig", b"hts"]
    assert {key_path: bundle.num_bytes for key_path, bundle in files.bundles.items()} == {
        ("data_dir",): 10, ("supernet", "path"): 7
    }  # fmt: skip
    cache = NodeCache(tmp_path)
    with ExitStack() as stack:
        here = {at: stack.enter_context(cache.extracted(bundle, store.fetch)) for at, bundle in files.bundles.items()}
        assert {file.name: file.read_bytes() for file in here["data_dir",].iterdir()} == {
            "data.json": b"", "images.npy": b"0123456789"
        }  # fmt: skip
        assert here["supernet", "path"].read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("fields", "read", "written"),
    [
        ({"kind": "trial", "weights_path": "WEIGHTS"}, [("data_dir",)], [("weights_path",)]),
        ({"kind": "trial", "weights_path": None}, [("data_dir",)], []),
        ({"kind": "final", "weights_path": "WEIGHTS"}, [("data_dir",)], [("weights_path",)]),
        ({"kind": "test", "weights_path": "WEIGHTS"}, [("data_dir",), ("weights_path",)], []),
        ({"kind": "speed"}, [("data_dir",)], []),
        ({"kind": "trial", "supernet": {"path": "/nowhere/net"}}, [("data_dir",)], []),
        ({"kind": "latency", "data_dir": None}, [], []),
        ({"kind": "trial", "checkpoint_to": "WEIGHTS"}, [("data_dir",)], [("checkpoint_to",)]),
        ({"kind": "trial", "checkpoint_from": "WEIGHTS"}, [("checkpoint_from",), ("data_dir",)], []),
        ({"kind": "trial", "checkpoint_from": "/nowhere/it"}, [("data_dir",)], []),
    ],
)
def test_each_kind_of_job_takes_what_it_reads_and_brings_what_it_leaves(
    store: Store, data_dir: Path, fields: dict[str, Any], read: list[Any], written: list[Any]
) -> None:
    weights = data_dir.parent / "weights"
    weights.write_bytes(b"w")
    fields = {name: str(weights) if value == "WEIGHTS" else value for name, value in fields.items()}
    files = BundleWriter(store.put).write({**job(data_dir), **fields})
    assert (sorted(files.bundles), list(files.outputs)) == (read, written)


def test_soft_labels_travel(store: Store, data_dir: Path, tmp_path: Path) -> None:
    labels = tmp_path / "teacher.soft"
    labels.write_bytes(b"rows")
    files = BundleWriter(store.put).write(job(data_dir, soft_labels={"path": str(labels), "digest": "d", "seed": 0}))
    assert sorted(files.bundles) == [("data_dir",), ("soft_labels", "path")]
    assert sorted(BundleWriter(store.put).write(job(data_dir, soft_labels=None)).bundles) == [("data_dir",)]


def test_files_are_stored_once_as_long_as_they_are_the_same(store: Store, data_dir: Path) -> None:
    writer = BundleWriter(store.put)
    first = writer.write(job(data_dir))
    assert writer.write(job(data_dir, kind="final")).bundles == first.bundles
    assert len(store.chunks) == 3
    (data_dir / "images.npy").write_bytes(b"98765432")
    second = writer.write(job(data_dir))
    assert store.chunks[3:] == [b"9876", b"5432"]
    assert second.bundles["data_dir",].digest != first.bundles["data_dir",].digest


def test_a_bundle_is_known_by_its_names_and_contents_alone(store: Store, data_dir: Path) -> None:
    digest = BundleWriter(store.put).write(job(data_dir)).bundles["data_dir",].digest
    again = data_dir.rename(data_dir.parent / "elsewhere")
    assert BundleWriter(store.put).write(job(again)).bundles["data_dir",].digest == digest
    (again / "images.npy").rename(again / "labels.npy")
    assert BundleWriter(store.put).write(job(again)).bundles["data_dir",].digest != digest


def test_what_does_not_arrive_as_it_was_sent_is_not_extracted(store: Store, tmp_path: Path) -> None:
    bundle = bundle_of(b"01234567", store, tmp_path)
    store.chunks[1] = b"4568"
    cache = NodeCache(tmp_path)
    with pytest.raises(OSError, match="did not arrive"), cache.extracted(bundle, store.fetch):
        pass
    store.chunks[1] = b"4567"
    with cache.extracted(bundle, store.fetch) as path:
        assert path.read_bytes() == b"01234567"


def test_it_is_extracted_once_for_all_who_come_together(store: Store, tmp_path: Path) -> None:
    bundle, cache, together = (
        bundle_of(b"01234567", store, tmp_path),
        NodeCache(tmp_path),
        threading.Barrier(4, timeout=30),
    )

    def fetch_slowly(number: int) -> bytes:
        threading.Event().wait(0.05)  # so that the others come meanwhile
        return store.fetch(number)

    def use() -> int:
        together.wait()
        with cache.extracted(bundle, fetch_slowly) as path:
            together.wait()  # so all use it at the same time
            return path.stat().st_ino

    with ThreadPoolExecutor(4) as executor:
        inodes = {future.result() for future in [executor.submit(use) for _ in range(4)]}
    assert len(inodes) == 1
    assert store.num_fetched == 2


def test_what_a_killed_worker_left_half_done_is_done_again(store: Store, tmp_path: Path) -> None:
    bundle = bundle_of(b"01234567", store, tmp_path)
    unfinished = tmp_path / f"{bundle.digest}.part"
    unfinished.mkdir()
    (unfinished / bundle.files[0].name).write_bytes(b"01")
    with NodeCache(tmp_path).extracted(bundle, store.fetch) as path:
        assert path.read_bytes() == b"01234567"
    assert not unfinished.exists()


def test_what_a_killed_worker_left_of_another_bundle_is_removed(store: Store, tmp_path: Path) -> None:
    left = tmp_path / "0123.part"
    left.mkdir()
    (left / "images.npy").write_bytes(b"01")
    with NodeCache(tmp_path).extracted(bundle_of(b"01234567", store, tmp_path), store.fetch):
        assert not left.exists()


def test_beyond_the_limit_those_go_that_were_not_used_for_longest(store: Store, tmp_path: Path) -> None:
    """One of three entries must make room for a fourth: not the oldest, which is in use, but the next."""
    folder = tmp_path / "cache"
    folder.mkdir()
    cache = NodeCache(folder, max_bytes=12)
    in_use, older, newer, new = (bundle_of(content, store, tmp_path) for content in (b"aaaa", b"bbbb", b"cccc", b"dd"))
    with cache.extracted(in_use, store.fetch):
        for bundle in (older, newer):
            with cache.extracted(bundle, store.fetch):
                pass
        for time, bundle in enumerate((in_use, older, newer)):
            os.utime(folder / bundle.digest, (time, time))
        with cache.extracted(new, store.fetch):
            kept = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    assert kept == {in_use.digest, newer.digest, new.digest}


def test_the_folder_is_this_user_s_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = default_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    assert default_folder() == folder
    monkeypatch.setattr("os.getuid", lambda: 4321)
    other = tmp_path / "sret-nas-4321"
    other.mkdir()
    with pytest.raises(PermissionError, match=str(other)):
        default_folder()


def test_values_are_changed_in_a_copy() -> None:
    payload = {"data_dir": "a", "supernet": {"path": "b", "digest": "d"}}
    changed = with_values(payload, {("data_dir",): "A", ("supernet", "path"): "B"})
    assert changed == {"data_dir": "A", "supernet": {"path": "B", "digest": "d"}}
    assert payload == {"data_dir": "a", "supernet": {"path": "b", "digest": "d"}}
    assert value_at(payload, ("supernet", "path")) == "b"
    assert value_at({"supernet": None}, ("supernet", "path")) is None
    assert value_at({}, ("weights_path",)) is None


def test_a_kill_while_room_is_made_leaves_no_part_of_an_entry(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bundle_of(b"01234567", store, tmp_path), bundle_of(b"89abcdef", store, tmp_path)
    cache = NodeCache(tmp_path, max_bytes=8)
    with cache.extracted(first, store.fetch):
        pass

    def die(path: Path, **options: bool) -> None:
        if not options:  # not what removes leftovers
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trials.engines.node_cache.shutil.rmtree", die)
        with pytest.raises(KeyboardInterrupt), cache.extracted(second, store.fetch):
            pass
    assert not (tmp_path / first.digest).exists()
    with cache.extracted(first, store.fetch) as path:
        assert path.read_bytes() == b"01234567"
