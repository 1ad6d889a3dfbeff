"""Errors that the user can fix: each message gives the rule, the offending value, and what to do.

The command line prints these messages without a traceback and exits with code 2. Any other exception is a bug or a
fault of the machine, and exits with code 1.

A message may quote a file that somebody else wrote. It is therefore always one printable line of bounded length: a key
that contains a line break cannot forge a second error, and escape sequences never reach the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MAX_MESSAGE = 2_000
"""Most characters in one line of a message: room for a path or a list of known names, not for a page of data."""

MAX_VALUE = 80
"""Most characters of a quoted value."""


class UserError(Exception):
    """An input from the user cannot be used. The message names the rule that it breaks and what would be accepted."""

    def __init__(self, message: str, *details: str) -> None:
        """Stores the message; each of `details` becomes an indented line below it."""
        self.message = printable(message)
        self.details = tuple(printable(detail) for detail in details)
        super().__init__("\n  ".join((self.message, *self.details)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns what a copy is made of, also in another process: the finished message, not the arguments of it."""
        return _copied, (type(self), self.args, vars(self))


def _copied(kind: type[UserError], args: tuple[str, ...], state: dict[str, Any]) -> UserError:
    """Returns an error of a kind, without a call of its `__init__`, which may take other arguments."""
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error


class ConfigError(UserError):
    """A configured value is missing, unknown, of the wrong type, out of range, or contradicts another value."""

    def __init__(self, source: str, key_path: str, problem: str) -> None:
        """Joins the parts of the message; empty ones are left out.

        Args:
            source: The file, or a word that says where the data came from.
            key_path: Path to the value inside `source`, e.g. `stages[1].heads`.
            problem: The rule and the offending value.
        """
        self.source = source
        self.key_path = key_path
        self.problem = problem
        super().__init__(": ".join(part for part in (source, key_path, problem) if part))


class BudgetError(UserError):
    """No network of the space meets the budget."""


def printable(text: str, limit: int = MAX_MESSAGE) -> str:
    """Returns text as one line of at most `limit` characters; unprintable characters become escape sequences."""
    cut = text if len(text) <= limit else f"{text[: limit - 3]}..."
    if cut.isprintable():
        return cut
    shown = "".join(character if character.isprintable() else _escape(character) for character in cut)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


def _escape(character: str) -> str:
    """Returns a character as a Python escape sequence, e.g. a line break as `\\n`."""
    return character.encode("unicode_escape").decode()


def describe(value: Any, limit: int = MAX_VALUE) -> str:
    """Returns the `repr` of plain data, cut to `limit` characters; huge data is never formatted in full."""
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > limit:
            return f"{text[: limit - 3]}..."
    return text


def _pieces(value: Any) -> Iterator[str]:
    """Yields the text of `repr(value)` in pieces, so that the caller can stop early."""
    if isinstance(value, str):
        yield repr(value if len(value) <= MAX_MESSAGE else value[:MAX_MESSAGE])
    elif isinstance(value, dict):
        yield "{"
        for position, (key, item) in enumerate(value.items()):
            yield ", " if position else ""
            yield from _pieces(key)
            yield ": "
            yield from _pieces(item)
        yield "}"
    elif isinstance(value, list | tuple):
        yield "[" if isinstance(value, list) else "("
        for position, item in enumerate(value):
            yield ", " if position else ""
            yield from _pieces(item)
        yield "]" if isinstance(value, list) else ",)" if len(value) == 1 else ")"
    elif isinstance(value, int) and value.bit_length() > 256:
        yield f"a whole number of {value.bit_length()} bits"
    else:
        yield repr(value)
