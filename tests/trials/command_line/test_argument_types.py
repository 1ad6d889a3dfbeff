"""Words of the command line and the values they stand for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import create_parser
from trials.command_line.argument_types import (
    duration,
    latency,
    name_or_file,
    new_run,
    path,
    path_or_address,
    quantity,
    seed,
    small_count,
    threads,
    two_numbers,
    words,
)


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (quantity, "4.8M", 4_800_000),
        (latency, "0.02s", "0.02s"),  # SearchOptions spells it
        (duration, "1.5h", 5_400.0),
        (path, "a/b", Path("a/b")),
        (two_numbers, "0.6,1", [0.6, 1.0]),
        (words, "error, flops", ["error", "flops"]),
        (words, "", [""]),
        (threads, "1", 1),
        (threads, "1024", 1024),
        (seed, "0", 0),
        (seed, "4294967295", 2**32 - 1),
        (small_count, "0", 0),
        (small_count, "1000", 1000),
    ],
)
def test_words_become_values(type_: Callable[[str], Any], text: str, value: object) -> None:
    assert type_(text) == value
    assert type(type_(text)) is type(value)


@pytest.mark.parametrize(
    ("type_", "text", "message"),
    [
        (quantity, "inf", "must be a number such as 1G, 4.8M, 600K, 1.1e9 or 1100000000, got 'inf'"),
        (quantity, "0", "must lie between 1 and 4.6e18, got '0'"),
        (latency, "20", "must be a time with its unit, such as 20ms, 0.5s or 800us, got '20'"),
        (duration, "", "must be a time such as 90s, 5m, 1.5h or 1h30m, of at least a second, got ''"),
        (path, "", "must name a file or a folder, got nothing"),
        (name_or_file, "", "must be a name or a file, got nothing"),
        (two_numbers, "0", "must be two numbers, such as 0.6,1, got '0'"),
        (two_numbers, "0.1,0.5,1", "must be two numbers, such as 0.6,1, got '0.1,0.5,1'"),
        (two_numbers, "0.1,x", "must be two numbers, such as 0.6,1, got '0.1,x'"),
        (threads, "0", "must be a whole number from 1 to 1024, got '0'"),
        (threads, "1025", "must be a whole number from 1 to 1024, got '1025'"),
        (seed, "4294967296", "must be a whole number from 0 to 4294967295, got '4294967296'"),
        (seed, "-1", "must be a whole number from 0 to 4294967295, got '-1'"),
        (small_count, "1001", "must be a whole number from 0 to 1000, got '1001'"),
        (small_count, "٣", "must be a whole number from 0 to 1000, got '٣'"),  # a digit, but not of ASCII
        (small_count, "²", "must be a whole number from 0 to 1000, got '²'"),
        (small_count, "", "must be a whole number from 0 to 1000, got ''"),
    ],
)
def test_what_breaks_a_rule_is_named_with_the_rule(type_: Callable[[str], Any], text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        type_(text)
    assert str(raised.value) == message


@pytest.mark.parametrize("command", [["search"], ["study", "run", "loops"], ["supernet", "train"]])
def test_times_are_written_alike_in_all_commands(command: list[str]) -> None:
    option = "time_budget" if command[0] == "supernet" else "trial_timeout"
    given = create_parser().parse_args([*command, f"--{option.replace('_', '-')}", "1h30m"])
    assert getattr(given, option) == 5400


def test_the_name_of_a_new_run_is_utf_8() -> None:
    """Other files may have any name, such as a photo or a checkpoint."""
    name = os.fsdecode(b"r\xe9seau")
    with pytest.raises(argparse.ArgumentTypeError, match=r"must be a name in UTF-8, got 'r\\udce9seau'"):
        new_run(name)
    assert path(name) == Path(name)
    assert new_run("réseau") == Path("réseau")


def test_the_home_folder_is_no_folder_called_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell replaces the `~` of `--out=~/runs`."""
    monkeypatch.setenv("HOME", "/home/ann")
    for read in (path, new_run, path_or_address):
        assert read("~/runs") == Path("/home/ann/runs")
        assert read("./~/runs") == Path("~/runs")
