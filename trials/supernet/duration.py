"""A length of time as people write it."""

from __future__ import annotations

import re

from sret_nas.errors import UserError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)", re.ASCII)
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds from `90s`, `5m` or `1.5h`. Raises `UserError` for anything else."""
    match = _DURATION.fullmatch(text.strip())
    seconds = 0.0 if match is None else float(match[1]) * _SECONDS[match[2]]
    if not 1 <= seconds <= 1e8:
        raise UserError(f"must be a time such as 90s, 5m or 1.5h, of at least a second, got {text!r}")
    return seconds
