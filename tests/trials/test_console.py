"""What shows that work goes on."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from trials.console import Working


class Lines(io.StringIO):
    """A file that says when a number of lines have been written to it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.are_there = number, threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.getvalue().count("\n") >= self.number:
            self.are_there.set()
        return written


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    lines = Lines(2)
    working = Working(Console(file=lines, width=40), "Reading", first=0.01, between=0.01)
    working.update("Reading [3 of 4]")
    with working:
        assert lines.are_there.wait(10)
    assert lines.getvalue().splitlines()[:2] == ["Reading [3 of 4] ..."] * 2


def test_short_work_and_a_quiet_console_print_nothing() -> None:
    for console in (Console(file=io.StringIO()), Console(file=io.StringIO(), quiet=True)):
        with Working(console, "Reading"):
            pass
        assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def test_a_reader_that_goes_away_ends_the_work_as_it_does_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(Lines):
        def write(self, text: str) -> int:
            self.are_there.set()
            raise BrokenPipeError

    def end(self: Console) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Console, "on_broken_pipe", end)  # its own redirects standard output
    closed = Closed(1)
    with pytest.raises(KeyboardInterrupt), Working(Console(file=closed), "Reading", first=0.01, between=0.01):
        assert closed.are_there.wait(10)


def test_errors_pass() -> None:
    with pytest.raises(ValueError, match="broken"), Working(Console(file=io.StringIO()), "Reading"):
        raise ValueError("broken")
