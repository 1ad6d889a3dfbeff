"""Lines with a checksum: what may not be written, and what is noticed when they are read."""

from __future__ import annotations

import json

import pytest

from sret_nas.errors import ConfigError
from trials.runs.checksums import with_checksum, without_checksum


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_does_not_know_is_not_written(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        with_checksum({"error": number})


def test_a_line_is_read_as_it_was_written_and_no_byte_may_change() -> None:
    line = with_checksum({"error": 0.25})
    assert line.endswith(b"\n")
    plain, was_checked = without_checksum(line[:-1], "records.jsonl: line 1", must_be_checked=True)
    assert (json.loads(plain), was_checked) == ({"error": 0.25}, True)
    with pytest.raises(ConfigError, match="line 1: not a record of this tool: its checksum says"):
        without_checksum(line[:-1].replace(b"0.25", b"0.26"), "records.jsonl: line 1", must_be_checked=True)


def test_lines_of_earlier_versions_have_none() -> None:
    assert without_checksum(b'{"a": 1}', "records.jsonl: line 1", must_be_checked=False) == (b'{"a": 1}', False)
    with pytest.raises(ConfigError, match="it has no checksum, unlike the lines before it"):
        without_checksum(b'{"a": 1}', "records.jsonl: line 1", must_be_checked=True)
