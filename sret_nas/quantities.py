"""Parsing and formatting of counts (`1G`), latencies (`20ms`) and durations (`2h`)."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from math import ceil

from sret_nas.errors import UserError

_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}

_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*([A-Za-z]*)", re.IGNORECASE | re.ASCII)


def parse_quantity(text: str) -> int:
    """Parses a positive count such as `1G`, `4.8M`, `600K`, `1.1e9` or `1100000000`.

    Suffixes are decimal: K is 1e3, M is 1e6, G or B is 1e9, T is 1e12. Raises `UserError` for anything else.
    """
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2].upper() not in _SUFFIXES:
        raise UserError(f"must be a number such as 1G, 4.8M, 600K, 1.1e9 or 1100000000, got {text!r}")
    value = float(match[1]) * _SUFFIXES[match[2].upper()]
    if not math.isfinite(value) or not 1 <= value <= 2**62:
        raise UserError(f"must lie between 1 and 4.6e18, got {text!r}")
    return round(value)


def format_quantity(value: float, digits: int = 4) -> str:
    """Formats a count with suffix K, M, G or T and `digits` significant digits: 1121700000 as `1.122G`."""
    for suffix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(value) >= factor * (1 - 0.5 * 10**-digits):
            return f"{value / factor:.{digits}g}{suffix}"
    return f"{value:g}"


def round_quantity(value: int, up: bool) -> str:
    """Formats a count with four digits, rounded up or down.

    `parse_quantity` of the result is at least the value with `up`, and at most the value without.
    """
    unit = 10 ** max(0, len(str(value)) - 4)
    return format_quantity((ceil(Fraction(value, unit)) if up else value // unit) * unit, digits=4)


_LATENCY_UNITS = {"us": 1, "µs": 1, "ms": 1_000, "s": 1_000_000}
"""Microseconds per unit."""

_LATENCY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zµ]+)", re.IGNORECASE)


def parse_latency(text: str) -> int:
    """Parses a latency such as `20ms`, `0.5s` or `800us` into microseconds. Raises `UserError` for anything else."""
    match = _LATENCY.fullmatch(text.strip())
    if match is None or match[2].lower() not in _LATENCY_UNITS:
        raise UserError(f"must be a time with its unit, such as 20ms, 0.5s or 800us, got {text!r}")
    value = float(match[1]) * _LATENCY_UNITS[match[2].lower()]
    if not 1 <= value <= 3_600 * 1e6:
        raise UserError(f"must lie between 1us and 3600s, got {text!r}")
    return round(value)


def format_latency(microseconds: float, digits: int = 4) -> str:
    """Formats microseconds with `digits` significant digits, e.g. as `812us`, `20.5ms` or `1.5s`."""
    for unit, factor in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= factor * (1 - 0.5 * 10**-digits):
            return f"{microseconds / factor:.{digits}g}{unit}"
    return f"{microseconds:.{digits}g}us"


_DURATION_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
"""Seconds per unit."""

_NUMBER = r"\d+(?:\.\d+)?"

_DURATION = re.compile(
    rf"(?:(?P<h>{_NUMBER})\s*h)?\s*(?:(?P<m>{_NUMBER})\s*m(?:in)?)?\s*(?:(?P<s>{_NUMBER})\s*s)?", re.ASCII
)
"""Numbers with units, larger units first, each unit at most once."""


def parse_duration(text: str) -> float:
    """Parses a duration such as `90s`, `5m`, `1.5h` or `1h30m` into seconds. Raises `UserError` for anything else."""
    match = _DURATION.fullmatch(text.strip())
    found = {} if match is None else {unit: number for unit, number in match.groupdict().items() if number is not None}
    seconds = sum(float(number) * _DURATION_UNITS[unit] for unit, number in found.items())
    if not 1 <= seconds <= 1e8:
        raise UserError(f"must be a time such as 90s, 5m, 1.5h or 1h30m, of at least a second, got {text!r}")
    return seconds


def format_seconds(seconds: float) -> str:
    """Formats a duration, e.g. as `0.4 s`, `8 s`, `2 min 5 s` or `1 h 12 min`."""
    if 0 < seconds < 2:
        return f"{seconds:.1f} s"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
