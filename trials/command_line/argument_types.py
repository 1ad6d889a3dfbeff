"""Parsers of option values for argparse. Each raises argparse's error with the rule and the offending value.

Plain numbers of runs are parsed by `int` and `float`; the option groups and `SupernetConfig` check their ranges.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sret_nas.errors import UserError

from ..runs.directory import is_unicode

Parsed = TypeVar("Parsed")

NUMBERS = {"int": "a whole number", "float": "a number"}
"""What the parsers of plain numbers accept, in words, by their names."""


def quantity(text: str) -> int:
    """Returns a count such as `1G`."""
    from sret_nas.quantities import parse_quantity

    return _parsed(parse_quantity, text)


def latency(text: str) -> str:
    """Returns a latency such as `20ms` unchanged, after checking it."""
    from sret_nas.quantities import parse_latency

    _parsed(parse_latency, text)
    return text


def duration(text: str) -> float:
    """Returns the seconds of a time such as `5m`."""
    from sret_nas.quantities import parse_duration

    return _parsed(parse_duration, text)


def network(text: str) -> dict[str, object]:
    """Returns the architecture in a YAML file as plain data."""
    from sret_nas.arch.config import ArchConfig

    return _parsed(lambda name: ArchConfig.from_yaml(name).to_dict(), text)


def path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("must name a file or a folder, got nothing")
    return Path(os.path.expanduser(text))  # no shell replaces the ~ of --out=~/runs


def name_or_file(text: str) -> str:
    """Returns a file, or the name of something that is shipped, unchanged."""
    if not text:
        raise argparse.ArgumentTypeError("must be a name or a file, got nothing")
    return text


def new_run(text: str) -> Path:
    """Returns the directory of a new run, whose name must be UTF-8: records, messages and reports have it."""
    if not is_unicode(text):
        raise argparse.ArgumentTypeError(f"must be a name in UTF-8, got {text!a}")
    return path(text)


def path_or_address(text: str) -> Path | str:
    """Returns a folder, or an address in a bucket such as `s3://bucket/runs/1` unchanged."""
    return text if "://" in text else path(text)


def words(text: str) -> list[str]:
    """Returns the words of a comma-separated list."""
    return [word.strip() for word in text.split(",")]


def two_numbers(text: str) -> list[float]:
    """Returns the numbers of a list such as `0.6,1`."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 2:
        raise argparse.ArgumentTypeError(f"must be two numbers, such as 0.6,1, got {text!r}")
    return values


def number_or_none(text: str) -> float | int | None:
    """Returns a number, or None for `none`, which turns an optional value off."""
    if text.lower() == "none":
        return None
    number = _parsed(_number, text)
    return int(number) if text.strip().isdigit() else number


def word_or_none(text: str) -> str | None:
    """Returns a word, or None for `none`, which turns an optional value off."""
    return None if text.lower() == "none" else text


def true_or_false(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false, got {text!r}")
    return text.lower() == "true"


def _number(text: str) -> float:
    """Parses a number. Raises `UserError` for anything else."""
    try:
        return float(text)
    except ValueError:
        raise UserError(f"must be a number, got {text!r}") from None


def threads(text: str) -> int:
    return _whole_number(text, 1, 1024)


def seed(text: str) -> int:
    return _whole_number(text, 0, 2**32 - 1)


def small_count(text: str) -> int:
    return _whole_number(text, 0, 1000)


def positive_count(text: str) -> int:
    return _whole_number(text, 1, 10**9)


def recursions(text: str) -> tuple[int, ...]:
    """Returns the numbers of a list such as `2,1,1`."""
    return tuple(_whole_number(word, 1, 16) for word in words(text))


def channel_values(text: str) -> tuple[float, ...]:
    """Returns the numbers of a list such as `0.5,0.4,0.3`, one per channel."""
    try:
        values = tuple(float(word) for word in words(text))
    except ValueError:
        values = ()
    if not values or not all(math.isfinite(value) for value in values):
        raise argparse.ArgumentTypeError(f"must be numbers separated by commas, one per channel, got {text!r}")
    return values


def channel_deviations(text: str) -> tuple[float, ...]:
    """Returns the positive numbers of a list such as `0.2,0.2,0.2`, one per channel."""
    values = channel_values(text)
    if min(values) <= 0:
        raise argparse.ArgumentTypeError(f"must be positive, got {text!r}")
    return values


def _parsed(parse: Callable[[str], Parsed], text: str) -> Parsed:
    try:
        return parse(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _whole_number(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, got {text!r}")
    return int(text)
