"""The errors that are the user's to mend: the rule, the value that broke it, and what to do.

The command line prints them as they are, without a traceback, and exits with code 2. Everything else
that goes wrong is a bug or the machine's, and exits with code 1.

A message may quote a file that somebody else wrote. So it is always one printable line of bounded length: a key with a
line break in it cannot forge a second error, and one with an escape sequence does not reach the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MAX_MESSAGE = 2_000
"""Characters of a line of a message; paths and lists of known names fit, and a page of quoted data does not."""

MAX_VALUE = 80
"""Characters of a value that a message quotes."""


class UserError(Exception):
    """Something the user gave cannot be used; the message says which rule it breaks and what would do."""

    def __init__(self, message: str, *details: str) -> None:
        """Each of `details` becomes an indented line of its own below the message."""
        self.message = printable(message)
        self.details = tuple(printable(detail) for detail in details)
        super().__init__("\n  ".join((self.message, *self.details)))


class ConfigError(UserError):
    """A value in a configuration is missing, unknown, of the wrong type, out of range or contradicts another.

    `source` is the file (or a word for where the data came from), `key_path` the path to the value inside it,
    e.g. `stages[1].heads`.
    """

    def __init__(self, source: str, key_path: str, problem: str) -> None:
        self.source = source
        self.key_path = key_path
        self.problem = problem
        super().__init__(": ".join(part for part in (source, key_path, problem) if part))


class BudgetError(UserError):
    """A budget that no network of the space can meet."""


def printable(text: str, limit: int = MAX_MESSAGE) -> str:
    """Returns text as one line of at most `limit` characters, with whatever does not print shown as an escape."""
    cut = text if len(text) <= limit else f"{text[: limit - 3]}..."
    if cut.isprintable():
        return cut
    shown = "".join(character if character.isprintable() else _escape(character) for character in cut)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def describe(value: Any, limit: int = MAX_VALUE) -> str:
    """Returns plain data as Python writes it, cut to `limit` characters. What is cut off is never written out."""
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > limit:
            return f"{text[: limit - 3]}..."
    return text


def _pieces(value: Any) -> Iterator[str]:
    """Yields the text of `repr(value)` bit by bit, so that its reader can stop early."""
    if isinstance(value, str):
        yield repr(value if len(value) <= MAX_MESSAGE else value[:MAX_MESSAGE])
    elif isinstance(value, dict):
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield ", " if number else ""
            yield from _pieces(key)
            yield ": "
            yield from _pieces(item)
        yield "}"
    elif isinstance(value, list | tuple):
        yield "[" if isinstance(value, list) else "("
        for number, item in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(item)
        yield "]" if isinstance(value, list) else ",)" if len(value) == 1 else ")"
    elif isinstance(value, int) and value.bit_length() > 256:
        yield f"a whole number of {value.bit_length()} bits"
    else:
        yield repr(value)
