"""JSON as plain data, read without trust: bounded in size, depth and number of values before anything is built."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sret_nas.bounded_files import decode_text, merge_surrogates, read_bytes, read_lines
from sret_nas.errors import ConfigError, describe

MAX_BYTES = 16 * 2**20
"""Of a file, or of one line. The longest line of a search, its header with a latency profile in it, has about 100 kB;
the metadata of prepared images list every file that was passed over."""
MAX_VALUES = 2_000_000
"""Values, lists, mappings and keys."""
MAX_DEPTH = 64

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
MAX_DIGITS = 400
"""Characters of a whole number."""


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Returns the content of a JSON file as plain Python data.

    Raises `UserError` if the file is missing, unreadable or too large, and `ConfigError` if it is not plain JSON.
    """
    return parse_json(read_bytes(path, max_bytes), str(path))


def read_json_lines(path: Path, max_bytes_per_line: int = MAX_BYTES) -> Iterator[tuple[int, Any]]:
    """Yields the number, from 1, and the content of every whole line of a file of JSON lines.

    Raises `UserError` as `read_json` does, with the number of the line.
    """
    for number, line in enumerate(read_lines(path, max_bytes_per_line), start=1):
        yield number, parse_json(line, f"{path}, line {number}")


def parse_json(content: bytes | str, source: str) -> Any:
    """Returns JSON text as plain Python data; `source` names it in error messages.

    Refused are a key that is written twice, numbers that are not finite, and text that holds half a surrogate pair.
    Raises `UserError` or `ConfigError`.
    """
    data = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    text = decode_text(data, source)
    _check_bounds(data, source)
    try:
        found = json.loads(
            text,
            object_pairs_hook=_mapping,
            parse_float=_finite,
            parse_int=_whole,
            parse_constant=_no_constant,
        )
        return _with_whole_characters(found) if re.search(rb"\\u[dD][89a-fA-F]", data) else found
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if "\n" not in text else f"line {error.lineno}, column {error.colno}"
        raise ConfigError(source, where, f"not valid JSON: {error.msg}") from None
    except ValueError as error:
        raise ConfigError(source, "", f"not valid JSON: {error}") from None


def _check_bounds(data: bytes, source: str) -> None:
    """Raises `ConfigError` for what is too deep or too much, as told by its brackets, commas and colons."""
    marks = np.frombuffer(_STRING.sub(b"", data), dtype=np.uint8)
    opened = (marks == ord("[")) | (marks == ord("{"))
    closed = (marks == ord("]")) | (marks == ord("}"))
    depth = int(np.cumsum(opened.astype(np.int8) - closed.astype(np.int8), dtype=np.int64).max(initial=0))
    if depth > MAX_DEPTH:
        raise ConfigError(source, "", f"not valid JSON: must be at most {MAX_DEPTH} levels deep, got {depth:,}")
    number = int(opened.sum() + (marks == ord(",")).sum() + (marks == ord(":")).sum())
    if number > MAX_VALUES:
        raise ConfigError(source, "", f"not valid JSON: must hold at most {MAX_VALUES:,} values, got about {number:,}")


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {describe(key)} is written twice")
            seen.add(key)
    return mapping


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"numbers must be finite, got {describe(text)}")
    return value


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number must have at most {MAX_DIGITS} characters, got {len(text):,}")
    return int(text)


def _no_constant(text: str) -> float:
    raise ValueError(f"numbers must be finite, got {text}")


def _with_whole_characters(data: Any) -> Any:
    """Returns the data, whose pairs of surrogates the reader has merged. Raises `ValueError` for half a pair."""
    if isinstance(data, str):
        return merge_surrogates(data)
    if isinstance(data, list):
        return [_with_whole_characters(item) for item in data]
    if isinstance(data, dict):
        return {merge_surrogates(key): _with_whole_characters(value) for key, value in data.items()}
    return data
