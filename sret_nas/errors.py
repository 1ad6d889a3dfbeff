"""The errors that are the user's to mend: the rule, the value that broke it, and what to do.

The command line prints them as they are, without a traceback, and exits with code 2. Everything else
that goes wrong is a bug or the machine's, and exits with code 1.
"""

from __future__ import annotations


class UserError(Exception):
    """Something the user gave cannot be used; the message says which rule it breaks and what would do."""


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
