"""Times that people write become seconds, or are refused."""

from __future__ import annotations

import re

import pytest

from sret_nas.errors import UserError
from sret_nas.quantities import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1s", 1), ("5m", 300), ("5 min", 300), (" 2h ", 7200), ("1.5h", 5400), ("0.5m", 30),
     ("100000000s", 1e8), ("12.25m", 735), ("1h30m", 5400), ("1h 5m", 3900), ("2h1min30s", 7290), ("1h10s", 3610)],
)  # fmt: skip
def test_a_time_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "0.9s",
        "0m",
        "-1h",
        "5d",
        "5M",
        "30m1h",
        "1h2h",
        "1h30",
        "1.m",
        ".5h",
        "\u0661h",
        "1e3s",
        "100000001s",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    expected = f"must be a time such as 90s, 5m, 1.5h or 1h30m, of at least a second, got {text!r}"
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        parse_duration(text)
