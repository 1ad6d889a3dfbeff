"""Terminal output: plain lines, counting progress bars, and a console that survives a closed pipe."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

__all__ = ["Console", "Progress", "SearchConsole", "count_progress", "escape", "print_line"]

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


class SearchConsole(Console):
    """A console that ends the search as Ctrl-C does, with its results written, if standard output is closed (`| head`).

    rich would exit the process at once.
    """

    def on_broken_pipe(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # else Python fails once more when it flushes at exit
        self.file = sys.stderr  # where the hint how to resume can still be read
        raise KeyboardInterrupt
