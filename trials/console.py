"""Terminal output: plain lines, counting progress bars, and a console that survives a closed pipe."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

__all__ = [
    "Console", "Progress", "Repeated", "SearchConsole", "Working", "count_progress", "escape", "print_line",
]  # fmt: skip

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


class Repeated:
    """Calls a function now and then, in a thread, while other work goes on.

    A context manager. If a call raises, as printing does when nobody reads any more, there are no more calls, and
    leaving raises the same.
    """

    def __init__(self, action: Callable[[], None], first: float, between: float) -> None:
        """Stores the function, the seconds until its first call, and those between the next ones."""
        self._action, self._first, self._between = action, first, between
        self._has_ended = threading.Event()
        self._ended_by: BaseException | None = None
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._has_ended.set()
        self._thread.join()
        if error is None and self._ended_by is not None:
            raise self._ended_by

    def _repeat(self) -> None:
        wait = self._first
        while not self._has_ended.wait(wait):
            try:
                self._action()
            except BaseException as error:
                self._ended_by = error
                return
            wait = self._between


class Working:
    """Shows that work goes on: a spinner with a text on a terminal, else a line now and then.

    A context manager. `update` changes the text. If a line cannot be printed, leaving raises what printing raised.
    """

    def __init__(
        self, console: Console, text: str, first: float = FIRST_LINE_SECONDS, between: float = LINE_SECONDS
    ) -> None:
        """Stores the text; `first` and `between` are in seconds."""
        self._console, self._text = console, text
        self._status = console.status(escape(text)) if console.is_terminal else None
        is_silent = console.is_terminal or console.quiet
        self._lines = nullcontext() if is_silent else Repeated(self._print_line, first, between)

    def update(self, text: str) -> None:
        """Shows this text from now on."""
        self._text = text
        if self._status is not None:
            self._status.update(escape(text))

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        self._lines.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()
        self._lines.__exit__(kind, error, trace)

    def _print_line(self) -> None:
        print_line(self._console, f"{self._text} ...")


class SearchConsole(Console):
    """A console that ends the search as Ctrl-C does, with its results written, if standard output is closed (`| head`).

    rich would exit the process at once.
    """

    def on_broken_pipe(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # else Python fails once more when it flushes at exit
        self.file = sys.stderr  # where the hint how to resume can still be read
        raise KeyboardInterrupt
