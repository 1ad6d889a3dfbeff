"""JSON from outside: plain data inside bounds, and everything else refused in one line before it is built."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sret_nas.errors import ConfigError, UserError
from sret_nas.json_files import parse_json

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_round_trip(data: Any) -> None:
    assert parse_json(json.dumps(data), "f") == data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "not valid JSON: key 'a' is written twice"),
        ('{"a": NaN}', "not valid JSON: numbers must be finite, got NaN"),
        ('{"a": 1e999}', "not valid JSON: numbers must be finite, got '1e999'"),
        ('{"a": "\\ud83d"}', "not valid JSON: must be text, got half a surrogate pair"),
        ("9" * 5000, "not valid JSON: a number must have at most 400 characters, got 5,000"),
        ("[" * 100_000, "not valid JSON: must be at most 64 levels deep, got 100,000"),
        ("[" + "1," * 2_000_001, "not valid JSON: must hold at most 2,000,000 values"),
        ('{"a": [1\n2]}', "line 2, column 1: not valid JSON: Expecting ',' delimiter"),
        ("", "column 1: not valid JSON: Expecting value"),
    ],
)
def test_what_is_not_plain_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^f.json: {message}"):
        parse_json(text, "f.json")


def test_brackets_in_text_are_not_depth() -> None:
    assert parse_json('["' + "[" * 1000 + '\\"[[["]', "f") == ["[" * 1000 + '"[[[']


def test_other_bytes_than_utf_8_are_named_with_their_place() -> None:
    with pytest.raises(UserError, match=r"^f.json: cannot be read: line 2, byte 4: must be UTF-8 text, got 0xff$"):
        parse_json(b"[1\n\xff]", "f.json")
