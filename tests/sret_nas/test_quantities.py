"""Times that people write become numbers, or are refused; numbers are written short, and rounded as is asked."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sret_nas.errors import UserError
from sret_nas.quantities import (
    format_latency,
    format_quantity,
    parse_duration,
    parse_latency,
    parse_quantity,
    round_quantity,
)


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


@pytest.mark.parametrize(
    ("value", "up", "down"),
    [
        (1_234_501, "1.235M", "1.234M"),
        (12_345_678, "12.35M", "12.34M"),
        (999_951, "1M", "999.9K"),
        (9_999, "9.999K", "9.999K"),
        (7, "7", "7"),
        (1_000_000_000_001, "1.001T", "1T"),
    ],
)
def test_a_count_is_rounded_up_or_down_to_four_digits(value: int, up: str, down: str) -> None:
    assert (round_quantity(value, up=True), round_quantity(value, up=False)) == (up, down)


def test_what_rounds_to_a_thousand_has_the_next_suffix() -> None:
    assert [format_quantity(0.99995 * factor) for factor in (1e3, 1e6, 1e9, 1e12)] == ["1K", "1M", "1G", "1T"]


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(812, "812us"), (999.95, "1ms"), (20_500, "20.5ms"), (999_950, "1s"), (1_500_000, "1.5s")],
)
def test_a_latency_is_written_with_its_unit(microseconds: float, text: str) -> None:
    assert format_latency(microseconds) == text


def test_a_latency_is_at_most_an_hour() -> None:
    assert parse_latency("3600s") == 3_600_000_000
    with pytest.raises(UserError, match=r"must lie between 1us and 3600s, got '3600\.5s'"):
        parse_latency("3600.5s")


@pytest.mark.parametrize(
    ("value", "down", "up"),
    [(1, "1", "1"), (999, "999", "999"), (57774720, "57.77M", "57.78M"), (57770000, "57.77M", "57.77M"),
     (999999, "999.9K", "1M"), (1000000, "1M", "1M"),
     (9999999999, "9.999G", "10G"), (123456789012, "123.4G", "123.5G")],
)  # fmt: skip
def test_round_quantity(value: int, down: str, up: str) -> None:
    assert (round_quantity(value, up=False), round_quantity(value, up=True)) == (down, up)


@given(st.integers(1, 10**15))
def test_round_quantity_reads_back_on_the_right_side(value: int) -> None:
    down, up = (parse_quantity(round_quantity(value, up=direction)) for direction in (False, True))
    assert down <= value <= up
    assert up - down <= value / 1_000


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("20ms", 20_000), ("0.5s", 500_000), ("800us", 800), ("800 µs", 800), (" 1.5 MS ", 1_500), (".25s", 250_000)],
)
def test_times_are_read_with_their_unit(text: str, microseconds: int) -> None:
    assert parse_latency(text) == microseconds


@pytest.mark.parametrize("text", ["20", "ms", "", "20 m", "-3ms", "1e3ms", "20ms!", "nan s", "٣ms"])
def test_what_is_no_time_is_explained(text: str) -> None:
    with pytest.raises(UserError, match=r"must be a time with its unit, such as 20ms, 0\.5s or 800us, got"):
        parse_latency(text)


@pytest.mark.parametrize("text", ["0ms", "0.1us", "2000000s"])
def test_times_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="must lie between 1us and 3600s, got"):
        parse_latency(text)


@given(st.integers(1, 3_600_000_000))
def test_times_are_written_as_they_are_read(microseconds: int) -> None:
    assert parse_latency(format_latency(microseconds, digits=12)) == microseconds


def test_durations() -> None:
    assert [parse_duration(text) for text in ("90s", "5m", "5 min", "1.5h")] == [90, 300, 300, 5400]
    for wrong in ("5", "m", "-5m", "0s", "1e3s", "5 days", "9" * 30 + "h", ""):
        with pytest.raises(UserError, match=r"must be a time such as 90s, 5m, 1\.5h or 1h30m"):
            parse_duration(wrong)
