"""Files that are none, or too much of one: refused at once, without waiting."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sret_nas.bounded_files import MissingFileError, read_bytes, read_lines, read_text
from sret_nas.errors import UserError
from sret_nas.files import digest_of_file


def test_only_regular_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for path, kind in (
            (tmp_path, "a folder"),
            (tmp_path / "pipe", "a pipe"),
            (tmp_path / "socket", "a socket"),
            (Path("/dev/zero"), "a device"),
        ):
            for read in (lambda path: read_bytes(path, 10), digest_of_file):
                with pytest.raises(UserError, match=f"^{path}: cannot be read: it is {kind}, not a file$"):
                    read(path)


def test_a_missing_file_and_names_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"none: there is no such file$"):
        read_bytes(tmp_path / "none", 10)
    for name in ("a\0b", "x" * 300, "\ud800"):
        with pytest.raises(UserError, match="cannot be read: ") as caught:
            read_bytes(f"{tmp_path}/{name}", 10)
        assert str(caught.value).isprintable()


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert read_bytes(path, 10) == b"0123456789"
    with pytest.raises(UserError, match=r"file: must have at most 9 bytes, got 10$"):
        read_bytes(path, 9)
    os.truncate(path, 2**40)
    with pytest.raises(UserError, match="must have at most 10 bytes, got 1,099,511,627,776"):
        read_bytes(path, 10)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_text(tmp_path / "file", 100) == "a: 1"


def test_a_torn_last_line_is_not_read_and_a_long_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'{"a": 1}\n[2]\n{"b"')
    assert list(read_lines(path, 100)) == [b'{"a": 1}', b"[2]"]
    path.write_bytes(b"[" + b"1" * 100)
    with pytest.raises(UserError, match=r"lines, line 1: must have at most 50 bytes$"):
        list(read_lines(path, 50))
