"""The entry: puts the commands together and turns errors into exit codes. The commands are the modules beside this."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from sret_nas import __version__
from sret_nas.errors import UserError, printable

from ..interruption import ignore_signals_after_interrupt
from ..program_name import program_name
from . import (
    convert,
    evaluate,
    export,
    landscape,
    predict,
    profile,
    runs,
    search,
    soft_labels,
    space,
    study,
    supernet,
    train,
)
from .completion import SHELLS, PrintCompletion
from .exit_codes import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USER_ERROR

DESCRIPTION = """\
Neural architecture search for Sliced Recursive Transformers (SReT, ECCV 2022).

FLOPs are multiply-adds for one image, as fvcore counts them.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 2 for the user's error, 1 for any other, 130 for Ctrl-C."""
    given = create_parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        with ignore_signals_after_interrupt():
            return run(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        sys.stderr.close()
        return EXIT_FAILURE
    except OSError as error:  # the disk is full, a file cannot be read, ...
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILURE


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others are, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits."""
        self.exit(EXIT_USER_ERROR, f"error: {printable(_reworded(message.removeprefix('argument '), self.prog))}\n")


_NUMBERS = {"int": "a whole number", "float": "a number"}
_MISSING_VALUES = {"expected one argument": "a value", "expected at least one argument": "one value or more"}


def _reworded(message: str, program: str) -> str:
    """Returns argparse's message as the rule and what to do, such as `must be a whole number, got 'x'`."""
    for kind, rule in _NUMBERS.items():
        before, found, value = message.partition(f"invalid {kind} value: ")
        if found:
            return f"{before}must be {rule}, got {value}"
    before, found, value = message.partition("ignored explicit argument ")
    if found:
        return f"{before}takes no value, got {value}"
    for ending, missing in _MISSING_VALUES.items():
        if message.endswith(ending):
            return f"{message.removesuffix(ending)}needs {missing} after it"
    for beginning in ("the following arguments are required", "unrecognized arguments"):
        if message.startswith(beginning):
            return f"{message}; see {program} --help"
    return message


def create_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands, named as the user started it."""
    parser = Parser(
        prog=program_name(),
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sret-nas {__version__}")
    parser.add_argument(
        "--print-completion", action=PrintCompletion, choices=SHELLS, default=argparse.SUPPRESS,
        help="print what a shell completes commands and options by",
    )  # fmt: skip
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (
        search, runs, space, profile, supernet, train, soft_labels, evaluate, landscape, export, predict, convert,
        study,
    ):  # fmt: skip
        command.add_command(commands)
    return parser
