"""How a search speaks: plainly, and without falling silent with its reader."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

__all__ = ["Console", "Progress", "SearchConsole", "count_progress", "escape", "print_line"]

from sret_nas.errors import printable


def print_line(console: Console, text: str) -> None:
    """Prints text as it is: brackets in the name of a file are no markup, and long lines are the terminal's to wrap."""
    text = "\n".join(printable(line, 10 * len(line)) for line in text.split("\n"))
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def count_progress(console: Console, name: str) -> Progress:
    """A bar that counts, with a field `text` after it; silent where the console is no terminal."""
    return Progress(
        TextColumn(f"[bold]{name}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip


class SearchConsole(Console):
    """When the reader of standard output goes away (`| head`), the search ends as after Ctrl-C: results are written.

    rich would end the process on the spot.
    """

    def on_broken_pipe(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # or Python complains once more when it flushes at exit
        self.file = sys.stderr  # the hint how to carry on can still be read there
        raise KeyboardInterrupt
