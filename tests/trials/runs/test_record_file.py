"""The append-only file of records: torn lines, damage, the lock, a lost folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from sret_nas.errors import ConfigError, UserError
from trials.interruption import StepAborted
from trials.lost_directory import LostDirectoryError
from trials.runs import record_file
from trials.runs.record_file import RecordFile, read_record_file


def contents(path: Path) -> list[dict[str, object]]:
    return [content for _, content in read_record_file(path)]


def test_a_torn_last_line_is_cut_off_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordFile(path) as records:
        records.append({"number": 1})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number": 2, "crc')
    assert [content["number"] for content in contents(path)] == [1]
    with RecordFile(path) as records:
        records.append({"number": 3})
    assert [content["number"] for content in contents(path)] == [1, 3]
    assert path.read_bytes().startswith(whole)


def test_a_changed_line_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with RecordFile(path) as records:
        records.append({"error": 0.25})
    path.write_bytes(path.read_bytes().replace(b"0.25", b"0.15"))
    with pytest.raises(ConfigError, match=r"line 1: .*its checksum says that it has changed"):
        contents(path)


def test_a_new_file_is_no_program_and_only_its_owner_may_write(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    before = os.umask(0)
    try:
        RecordFile(path).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_file_that_cannot_be_read_is_not_kept_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.jsonl"
    with RecordFile(path) as records:
        records.append({"number": 1})
    with monkeypatch.context() as patch:
        patch.setattr(record_file, "MAX_BYTES", 4)
        with pytest.raises(UserError, match=r"records\.jsonl"):
            RecordFile(path)
    RecordFile(path).close()


def test_two_processes_cannot_write(tmp_path: Path) -> None:
    with RecordFile(tmp_path / "records.jsonl"), pytest.raises(UserError, match=r"is in use by another process"):
        RecordFile(tmp_path / "records.jsonl")


def test_a_lost_folder_is_rescued(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with RecordFile(folder / "records.jsonl") as records:
        records.append({"number": 1})
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(LostDirectoryError) as error:
            records.append({"number": 2})
    assert error.value.rescued is not None
    assert [content["number"] for content in contents(error.value.rescued / "records.jsonl")] == [1, 2]


def test_a_line_is_whole_where_a_disk_takes_it_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, pieces = os.write, list[int]()

    def write_a_piece(descriptor: int, line: bytes) -> int:
        pieces.append(write(descriptor, line[:7]))
        assert len(pieces) < 50, "the line grows without end"
        return pieces[-1]

    path = tmp_path / "records.jsonl"
    with RecordFile(path) as records, monkeypatch.context() as patch:
        patch.setattr(os, "write", write_a_piece)
        records.append({"number": 1})
        records.append({"number": 2})
    assert len(pieces) > 6
    assert [content["number"] for content in contents(path)] == [1, 2]
    assert path.stat().st_size == sum(pieces)


def test_a_second_signal_in_an_append_leaves_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is appended next, that the run was interrupted, would not fit the file."""
    write = record_file.LineFile._write

    def write_and_abort(*arguments: Any) -> None:
        write(*arguments)
        raise StepAborted

    path = tmp_path / "records.jsonl"
    with RecordFile(path) as records:
        records.append({"number": 1})
        with monkeypatch.context() as patch:
            patch.setattr(record_file.LineFile, "_write", write_and_abort)
            with pytest.raises(StepAborted):
                records.append({"number": 2})
        records.append({"number": 3})
    assert [content["number"] for content in contents(path)] == [1, 3]
