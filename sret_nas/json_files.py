"""JSON as plain data: size, depth and number of values are bounded before any object is built."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from sret_nas.bounded_files import decode_text, merge_surrogates, read_bytes
from sret_nas.errors import ConfigError, describe

MAX_BYTES = 16 * 2**20
"""Most bytes of a file, or of one line. The longest line of a search is its header with a latency profile, about
100 kB. The metadata of decoded images may be longer, because it lists every file that was skipped."""
MAX_VALUES = 2_000_000
"""Most values, lists, mappings and keys."""
MAX_DEPTH = 64
"""Most levels of nesting."""

MAX_DIGITS = 400
"""Most characters of a whole number."""

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Returns the content of a JSON file as plain Python data.

    Raises `UserError` if the file is missing, unreadable or too large, and `ConfigError` if it is not plain JSON.
    """
    return parse_json(read_bytes(path, max_bytes), str(path))


def parse_json(content: bytes | str, source: str) -> Any:
    """Parses JSON text into plain Python data.

    Raises `UserError` or `ConfigError`, naming `source`, for invalid JSON and for repeated keys, numbers that are not
    finite, and half a surrogate pair in a string.
    """
    data = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    text = decode_text(data, source)
    _check_bounds(data, source)
    try:
        data_read = json.loads(
            text,
            object_pairs_hook=_mapping,
            parse_float=_finite,
            parse_int=_whole,
            parse_constant=_no_constant,
        )
        return _with_whole_characters(data_read) if re.search(rb"\\u[dD][89a-fA-F]", data) else data_read
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if "\n" not in text else f"line {error.lineno}, column {error.colno}"
        raise ConfigError(source, where, f"not valid JSON: {error.msg}") from None
    except ValueError as error:
        raise ConfigError(source, "", f"not valid JSON: {error}") from None


def _check_bounds(data: bytes, source: str) -> None:
    """Raises `ConfigError` if the text nests too deep or holds too many values.

    Both follow from its brackets, commas and colons outside strings, without parsing.
    """
    marks = np.frombuffer(_STRING.sub(b"", data), dtype=np.uint8)
    opened = (marks == ord("[")) | (marks == ord("{"))
    closed = (marks == ord("]")) | (marks == ord("}"))
    depth = int(np.cumsum(opened.astype(np.int8) - closed.astype(np.int8), dtype=np.int64).max(initial=0))
    if depth > MAX_DEPTH:
        raise ConfigError(source, "", f"not valid JSON: must be at most {MAX_DEPTH} levels deep, got {depth:,}")
    num_values = int(opened.sum() + (marks == ord(",")).sum() + (marks == ord(":")).sum())
    if num_values > MAX_VALUES:
        raise ConfigError(
            source, "", f"not valid JSON: must hold at most {MAX_VALUES:,} values, got about {num_values:,}"
        )


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds a mapping. Raises `ValueError` for a repeated key."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {describe(key)} is written twice")
            seen.add(key)
    return mapping


def _finite(text: str) -> float:
    """Parses a float. Raises `ValueError` if it overflows to infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"numbers must be finite, got {describe(text)}")
    return value


def _whole(text: str) -> int:
    """Parses an integer. Raises `ValueError` if it is too long."""
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number must have at most {MAX_DIGITS} characters, got {len(text):,}")
    return int(text)


def _no_constant(text: str) -> float:
    """Raises `ValueError` for `NaN`, `Infinity` and `-Infinity`, which Python's reader accepts."""
    raise ValueError(f"numbers must be finite, got {text}")


def _with_whole_characters(data: Any) -> Any:
    """Returns the data with all surrogate pairs merged. Raises `ValueError` for half a pair."""
    if isinstance(data, str):
        return merge_surrogates(data)
    if isinstance(data, list):
        return [_with_whole_characters(item) for item in data]
    if isinstance(data, dict):
        return {merge_surrogates(key): _with_whole_characters(value) for key, value in data.items()}
    return data
