"""How a command tells its caller, e.g. a shell, how it ended."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILURE = 1
"""Anything that is neither the user's to mend nor an interruption."""
EXIT_USER_ERROR = 2
"""argparse's own for words that it cannot parse."""
EXIT_INTERRUPTED = 130
"""What a shell gives a program that Ctrl-C ended: 128 and the number of SIGINT."""
