"""Folders and buckets that hold copies: they are all alike to who writes and reads there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sret_nas.errors import UserError
from trials.runs.remote_storage import (
    BucketStore,
    FolderStore,
    RunStore,
    normalise_address,
    one_line,
    path_inside,
    split_address,
    store_for,
)


@pytest.fixture(
    params=["folder", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bucket", "part of a bucket"))]
)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path)
    address: str = request.getfixturevalue("bucket")
    return address if request.param == "bucket" else f"{address}/some/prefix"


class TestAnyStore:
    @pytest.fixture
    def store(self, storage: str) -> RunStore:
        return store_for(storage, "a run")

    def test_nothing_is_there_before_anything_is_written(self, store: RunStore) -> None:
        assert store.sizes() == {}
        assert store.size("weights/1") is None
        with pytest.raises(FileNotFoundError):
            store.read("weights/1")
        store.delete("weights/1")

    def test_files_are_written_replaced_and_deleted(self, store: RunStore) -> None:
        store.write("records.jsonl", b"one")
        store.write("weights/a b", b"12")
        store.write("records.jsonl", b"another")
        assert store.sizes() == {"records.jsonl": 7, "weights/a b": 2}
        assert (store.size("records.jsonl"), store.size("weights/a b"), store.size("weights")) == (7, 2, None)
        assert (store.read("records.jsonl"), store.read("weights/a b")) == (b"another", b"12")
        store.delete("weights/a b")
        assert store.sizes() == {"records.jsonl": 7}

    def test_a_large_file_comes_back_as_it_was(self, store: RunStore) -> None:
        content = bytes(range(256)) * (12 << 12)  # more than a part of an upload
        store.write("supernet/supernet.safetensors", content)
        assert store.read("supernet/supernet.safetensors") == content

    def test_copies_lie_side_by_side(self, store: RunStore, storage: str) -> None:
        store.write("x", b"1")
        other = store_for(storage, "a run 2")
        other.write("x", b"22")
        assert (store.sizes(), other.sizes()) == ({"x": 1}, {"x": 2})

    def test_its_address_leads_to_it(self, store: RunStore) -> None:
        store.write("x", b"1")
        assert split_address(store.address)[1] == "a run"
        assert store_for(*split_address(store.address)).read("x") == b"1"


def test_a_folder_that_is_not_mounted_is_not_made(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "nfs" / "run")
    for attempt in (store.sizes, lambda: store.size("x"), lambda: store.write("x", b"1")):
        with pytest.raises(FileNotFoundError, match=r"there is no folder .*/nfs: create or mount it"):
            attempt()
    assert list(tmp_path.iterdir()) == []


def test_the_last_file_of_a_folder_takes_the_folder_with_it(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "run")
    store.write("x", b"1")
    store.write("weights/y", b"1")
    store.delete("weights/y")
    assert [path.name for path in store._path.iterdir()] == ["x"]
    store.delete("x")
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_is_not_there_cannot_be_written(bucket: str) -> None:
    with pytest.raises(OSError, match="NO_SUCH_BUCKET"):
        BucketStore(f"{bucket}-2/run").write("x", b"1")


def test_what_arrow_does_not_understand_is_an_os_error(bucket: str) -> None:
    with pytest.raises(OSError, match="Unexpected query parameter"):
        BucketStore(f"{bucket}/run?nonsense=1")


@pytest.mark.parametrize(
    ("storage", "address"),
    [
        ("/nfs/runs", "/nfs/runs/a run"),
        ("s3://bucket/runs?region=eu-west-1", "s3://bucket/runs/a%20run?region=eu-west-1"),
        ("gs://bucket?scheme=http", "gs://bucket/a%20run?scheme=http"),
    ],
)
def test_a_run_lies_below_its_storage_with_the_same_parameters(storage: str, address: str) -> None:
    assert store_for(storage, "a run").address == address


def test_a_bucket_needs_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"s3://b/1 needs PyArrow .*: pip install -e '.\[storage\]'"):
        store_for("s3://b", "1")


@pytest.mark.parametrize(
    ("given", "spelling"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("gs://bucket/a/b/", "gs://bucket/a/b"),
        ("s3://bucket/a/?region=eu-west-1", "s3://bucket/a?region=eu-west-1"),
        ("/nfs/runs/", "/nfs/runs"),
        ("runs", str(Path("runs").absolute())),
    ],
)
def test_an_address_has_one_spelling(given: str, spelling: str) -> None:
    assert normalise_address(given) == spelling
    assert normalise_address(spelling) == spelling


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "must be a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, got nothing"),
        ("ftp://host/runs", "must be a folder, .* got 'ftp://host/runs'"),
        ("s3://", "got 's3://'"),
        ("s3:///runs", "got 's3:///runs'"),
        ("s3://bucket/a b", "got 's3://bucket/a b'"),
        ("s3://key:secret@bucket/runs", "^must not hold credentials.*AWS_SECRET_ACCESS_KEY[^@]*$"),
    ],
)
def test_what_is_no_address_is_refused(given: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        normalise_address(given)


@pytest.mark.parametrize(
    ("address", "storage", "name"),
    [
        ("s3://bucket/1", "s3://bucket", "1"),
        ("s3://bucket/a/b%20c/", "s3://bucket/a", "b c"),
        ("s3://bucket/a/1?region=x", "s3://bucket/a?region=x", "1"),
        ("/nfs/runs/b%20c", "/nfs/runs", "b%20c"),
        ("/1", "/", "1"),
    ],
)
def test_the_address_of_a_copy_is_a_storage_and_a_name(address: str, storage: str, name: str) -> None:
    assert split_address(address) == (storage, name)


def test_a_bucket_alone_is_no_copy() -> None:
    with pytest.raises(UserError, match="s3://bucket is a bucket: name the copy of a run in it"):
        split_address("s3://bucket/")


SECRETS = [
    "s3://bucket/runs?access_key=AKIA&secret_key=SECRET",
    "s3://bucket/runs?region=eu-west-1&token=SECRET",
    "s3://bucket?SECRET",
    "s3://bucket?secret_key%3DSECRET",
    "s3://bucket/runs?endpoint_override=http://user:SECRET@host:9000",
    "s3://bucket/runs?endpoint_override=http%3A%2F%2Fuser%3ASECRET%40host",
    "s3://bucket/runs?endpoint_override=http%253A%252F%252Fuser%253ASECRET%2540host",
    "s3://bucket/runs?endpoint_override=host/?token=SECRET",
    "s3://bucket/runs?region=eu&endpoint_override=http://host/SECRET",
    "s3://key:SECRET@bucket/runs",
    "s3://key%3ASECRET%40bucket/runs",
    "s3:///runs?secret_key=SECRET",
    "s3:/bucket/runs?secret_key=SECRET",
    "S3://bucket/runs?secret_key=SECRET",
    "ftp://host/runs?password=SECRET",
    "gs://bucket/runs#SECRET",
]


@pytest.mark.parametrize("address", SECRETS)
def test_a_secret_is_refused_and_not_repeated(address: str) -> None:
    for refuse in (normalise_address, split_address):
        with pytest.raises(UserError) as refused:
            refuse(address)
        assert "SECRET" not in str(refused.value).replace("AWS_SECRET_ACCESS_KEY", "")


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("endpoint_override=host/?x", "parameter endpoint_override must be HOST:PORT, http:// or https:// before it, "),
        ("region=eu/west", "parameter region must be one word, without credentials: "),
        ("user=me", "may have only the parameters "),
    ],
)
def test_a_wrong_parameter_is_told_what_it_must_be(query: str, rule: str) -> None:
    with pytest.raises(UserError) as refused:
        normalise_address(f"s3://bucket/runs?{query}")
    assert str(refused.value).startswith(rule)


@pytest.mark.parametrize(
    "query", ["endpoint_override=http://localhost:9000", "endpoint_override=minio:9000&scheme=http", "region=eu-west-1"]
)
def test_what_is_no_secret_is_kept(query: str) -> None:
    assert normalise_address(f"s3://bucket/runs?{query}") == f"s3://bucket/runs?{query}"


NAMES_OUTSIDE = ["/etc/passwd", "../x", "weights/../../x", "..", ".", "", "a//b", "a/./b", "a/", "a\0b"]


@pytest.mark.parametrize("name", NAMES_OUTSIDE)
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="not inside the run directory"):
        path_inside(tmp_path, name)


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "private").write_bytes(b"private")
    (folder / "weights").symlink_to(tmp_path)
    (folder / "best.yaml").symlink_to(tmp_path / "private")
    store = FolderStore(folder)
    assert store.sizes() == {}
    for name in ("weights/private", "best.yaml"):
        with pytest.raises(OSError, match="is a link that leads out of"):
            store.read(name)
        with pytest.raises(OSError, match="is a link that leads out of"):
            store.write(name, b"replaced")
    assert (tmp_path / "private").read_bytes() == b"private"
    assert path_inside(folder, "pareto/1..2.yaml") == folder / "pareto" / "1..2.yaml"


@pytest.mark.parametrize("name", ["..", "%2E%2E", "a%2F..%2F..%2Fb", "a%0Ab", "."])
def test_a_copy_is_named_like_a_folder(name: str) -> None:
    with pytest.raises(UserError, match="must be the name of a folder"):
        split_address(f"s3://bucket/runs/{name}")


def test_what_a_storage_says_on_several_lines_fits_on_one() -> None:
    assert one_line(OSError("When reading:\n  no such bucket\n")) == "When reading: no such bucket"
