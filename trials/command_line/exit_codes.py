"""Exit codes of all commands."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILURE = 1
"""Any failure that is neither a user error nor an interruption."""
EXIT_USER_ERROR = 2
"""A mistake of the user; also argparse's code for an invalid command line."""
EXIT_INTERRUPTED = 130
"""The convention of shells for Ctrl-C: 128 plus the number of SIGINT."""
