"""Terminal output: plain lines, counting progress bars, and a console that survives a closed pipe."""

from __future__ import annotations

import os
import sys
import threading
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

__all__ = ["Console", "Progress", "SearchConsole", "Working", "count_progress", "escape", "print_line"]

from sret_nas.errors import printable


def print_line(console: Console, text: str) -> None:
    """Prints text literally, without markup or wrapping, and with control characters escaped."""
    text = "\n".join(printable(line, 10 * len(line)) for line in text.split("\n"))
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def count_progress(console: Console, name: str) -> Progress:
    """Returns a progress bar with a counter and a field `text`; it shows nothing if the console is not a terminal."""
    return Progress(
        TextColumn(f"[bold]{name}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip


FIRST_LINE_SECONDS, LINE_SECONDS = 4.0, 30.0
"""Until the first line about work that goes on where there is no terminal, and between the next ones."""


class Working:
    """Shows that work goes on: a spinner with a text on a terminal, else a line now and then.

    A context manager. `update` changes the text. If a line cannot be printed, leaving raises what printing raised.
    """

    def __init__(
        self, console: Console, text: str, first: float = FIRST_LINE_SECONDS, between: float = LINE_SECONDS
    ) -> None:
        """Stores the text; `first` and `between` are in seconds."""
        self._console, self._text, self._first, self._between = console, text, first, between
        self._status = console.status(escape(text)) if console.is_terminal else None
        self._has_ended = threading.Event()
        self._ended_by: BaseException | None = None
        self._thread = threading.Thread(target=self._print_lines, daemon=True)

    def update(self, text: str) -> None:
        """Shows this text from now on."""
        self._text = text
        if self._status is not None:
            self._status.update(escape(text))

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        elif not self._console.quiet:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()
        self._has_ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if error is None and self._ended_by is not None:
            raise self._ended_by

    def _print_lines(self) -> None:
        wait = self._first
        while not self._has_ended.wait(wait):
            try:
                print_line(self._console, f"{self._text} ...")
            except BaseException as error:  # nobody reads any more, which ends the main thread's work as well
                self._ended_by = error
                return
            wait = self._between


class SearchConsole(Console):
    """A console that ends the search as Ctrl-C does, with its results written, if standard output is closed (`| head`).

    rich would exit the process at once.
    """

    def on_broken_pipe(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # else Python fails once more when it flushes at exit
        self.file = sys.stderr  # where the hint how to resume can still be read
        raise KeyboardInterrupt
