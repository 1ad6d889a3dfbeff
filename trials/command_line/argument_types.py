"""The values of options, from words to Python. Each raises argparse's error, with the rule and what was given.

A run's plain numbers are argparse's `int` and `float`, whose ranges the option groups and `SupernetConfig` check.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sret_nas.errors import UserError

Value = TypeVar("Value")


def quantity(text: str) -> int:
    """A count such as `1G`."""
    from sret_nas.quantities import parse_quantity

    return _parsed(parse_quantity, text)


def latency(text: str) -> str:
    """A latency such as `20ms`, as it was written."""
    from sret_nas.quantities import parse_latency

    _parsed(parse_latency, text)
    return text


def duration(text: str) -> float:
    """Seconds from a time such as `5m`."""
    from sret_nas.quantities import parse_duration

    return _parsed(parse_duration, text)


def path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("must name a folder, got nothing")
    return Path(text)


def path_or_address(text: str) -> Path | str:
    """A folder, or what is in a bucket such as `s3://bucket/runs/1`, as it was written."""
    return text if "://" in text else path(text)


def words(text: str) -> list[str]:
    """`a,b` as `["a", "b"]`."""
    return [word.strip() for word in text.split(",")]


def threads(text: str) -> int:
    return _whole_number(text, 1, 1024)


def seed(text: str) -> int:
    return _whole_number(text, 0, 2**32 - 1)


def small_count(text: str) -> int:
    return _whole_number(text, 0, 1000)


def _parsed(parse: Callable[[str], Value], text: str) -> Value:
    try:
        return parse(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _whole_number(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, got {text!r}")
    return int(text)
