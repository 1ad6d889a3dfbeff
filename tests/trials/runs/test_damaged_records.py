"""Records after a crash at any byte, with other lines, or from earlier versions: what is read, cut or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sret_nas import UserError
from tests.trials.runs.small_records import CANDIDATES, FAILURE, HEADER, result_of, write_run
from trials.runs.checksums import CHECKSUM
from trials.runs.directory import RECORDS_FILE
from trials.runs.history import read_history
from trials.runs.records import Records


def test_a_header_of_another_format_or_without_a_key_is_refused(tmp_path: Path) -> None:
    header = {"event": "header", "format": 1, "time": 1.0, **HEADER}
    without = {key: value for key, value in header.items() if key not in ("space", "device")}
    for wrong, told in (
        ({**header, "format": 2}, "format: not a record of this tool: must be 1, got 2"),
        ({**header, "event": "asked"}, "number: not a record of this tool: is missing .*"),
        (without, r"space: not a record of this tool: is missing \(and 1 more\)"),
    ):
        (tmp_path / RECORDS_FILE).write_text(json.dumps(wrong) + "\n")
        with pytest.raises(UserError, match=rf"line 1: {told}$"):
            read_history(tmp_path)


@pytest.mark.slow
def test_a_torn_line_is_cut_at_every_byte(tmp_path: Path) -> None:
    """Whatever byte a crash stops at, reopening keeps exactly the whole lines, and the next event is readable."""
    write_run(tmp_path / "whole")
    content = (tmp_path / "whole" / RECORDS_FILE).read_bytes()
    line_ends = [position + 1 for position, byte in enumerate(content) if byte == ord("\n")]
    last_start = line_ends[-2]
    for length in range(last_start, len(content) + 1):
        torn = tmp_path / "torn"
        torn.mkdir()
        (torn / RECORDS_FILE).write_bytes(content[:length])
        with Records(torn, must_exist=True) as records:
            before = records.reopen()
            records.ended(2, None, FAILURE, 0.0)
        after = read_history(torn)
        assert (before.trials[0].test is not None) == (length == len(content))
        assert after.trials[2].failure == FAILURE
        assert after.trials[0].result == result_of(CANDIDATES[0])
        shutil.rmtree(torn)


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    write_run(tmp_path)
    path = tmp_path / RECORDS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b'{"event": "asked"\n', *lines[3:]]))
    with pytest.raises(UserError, match=r"records\.jsonl, line 3: not a record of this tool: it has no checksum"):
        read_history(tmp_path)


@pytest.mark.parametrize(
    "event", [{"event": "won", "number": 0}, {"number": 0}, [], {"event": "finished", "number": 9}]
)
def test_events_of_no_known_kind_are_refused(tmp_path: Path, event: object) -> None:
    write_run(tmp_path)
    with open(tmp_path / RECORDS_FILE, "a") as file:
        file.write(json.dumps(event) + "\n")
    with pytest.raises(UserError, match="line 9"):
        read_history(tmp_path)


def test_a_trial_that_was_asked_for_twice_is_named(tmp_path: Path) -> None:
    """Its second line would hide the result that the first has by now."""
    write_run(tmp_path)
    path = tmp_path / RECORDS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, next(line for line in lines if b'"asked"' in line)]))
    with pytest.raises(UserError, match=r"line 9: not a record of this tool: trial 0 was asked for twice$"):
        read_history(tmp_path)


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / RECORDS_FILE).write_text('{"event": "header", \n')
    with pytest.raises(UserError, match=r"records\.jsonl, line 1: "):
        read_history(tmp_path)


def test_an_empty_file_and_a_missing_one_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run directory"):
        read_history(tmp_path)
    (tmp_path / RECORDS_FILE).write_bytes(b'{"event": "hea')
    with pytest.raises(UserError, match="ended before it began"):
        read_history(tmp_path)


def test_records_from_before_there_were_attempts_are_read(tmp_path: Path) -> None:
    """They lack the event `retried`, the seconds of attempts, and checksums."""
    write_run(tmp_path)
    path = tmp_path / RECORDS_FILE
    events = [json.loads(line) for line in path.read_text().splitlines()]
    older = [{**event} for event in events if event["event"] != "retried"]
    for event in older:
        event.pop("seconds", None)
        del event[CHECKSUM]
    path.write_text("".join(json.dumps(event) + "\n" for event in older))
    history = read_history(tmp_path)
    assert history.trials[0].result == result_of(CANDIDATES[0])
    assert history.trials[1].failure == FAILURE
    assert history.trials[1].retried == []
    assert history.usage.job_seconds == 2.0  # the result's own


@pytest.mark.slow
def test_a_flipped_byte_anywhere_in_a_line_is_noticed(tmp_path: Path) -> None:
    """In values, in keys and in the checksum itself; of a line in the middle, and with the digits 0 to 9 in mind."""
    write_run(tmp_path)
    path = tmp_path / RECORDS_FILE
    content = path.read_bytes()
    start = content.index(b'{"event": "finished"')
    end = content.index(b"\n", start)
    for position in range(start, end):
        flipped = bytearray(content)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=r"records\.jsonl, line 5: not a record of this tool"):
            read_history(tmp_path)


def test_lines_without_a_checksum_are_an_earlier_versions(tmp_path: Path) -> None:
    """They come first, and what is added to them has one; a later line that has lost its own is no such line."""
    write_run(tmp_path)
    path = tmp_path / RECORDS_FILE
    events = [json.loads(line) for line in path.read_text().splitlines()]
    for event in events:
        del event[CHECKSUM]
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    with Records(tmp_path, must_exist=True) as records:
        records.reopen()
        records.ended(2, None, FAILURE, 1.0)
    assert read_history(tmp_path).trials[2].failure == FAILURE
    with path.open("a") as file:
        file.write(json.dumps(events[-1]) + "\n")
    with pytest.raises(UserError, match="line 10: not a record of this tool: it has no checksum"):
        read_history(tmp_path)
