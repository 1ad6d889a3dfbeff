"""The entry: puts the commands together and turns errors into exit codes. The commands are the modules beside this."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from sret_nas import __version__
from sret_nas.errors import MAX_VALUE, UserError, printable

from ..interruption import ignore_signals_after_interrupt
from ..machine import have_threads_wait_briefly, missing_address_space
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
from .argument_types import NUMBERS
from .completion import SHELLS, PrintCompletion
from .exit_codes import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USER_ERROR

DESCRIPTION = """\
Neural architecture search for Sliced Recursive Transformers (SReT, ECCV 2022).

FLOPs are multiply-adds for one image, as fvcore counts them.
"""

IN_THE_WAY = {
    errno.ENAMETOOLONG: None,
    errno.EISDIR: "a folder is in the way of this file; move or rename it, and give the command again",
    errno.ENOTDIR: "a file is in the way of a folder of this path; move or rename it, and give the command again",
    errno.EEXIST: "a file is in the way of this folder; move or rename it, and give the command again",
}
"""What a user can mend of a path that is read or written, by the number of the system's error; None is in its words."""

SYMLINK_LOOP = "Symlink loop from "
"""How the RuntimeError of `Path.resolve` begins, before Python 3.13."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 2 for the user's error, 1 for any other, 130 for Ctrl-C."""
    given = create_parser().parse_args(arguments)
    have_threads_wait_briefly(os.environ)
    if (missing := missing_address_space()) is not None:
        print(f"error: {missing}", file=sys.stderr)
        return EXIT_FAILURE
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
    except (OSError, MemoryError, ImportError, RuntimeError) as error:
        if (looping := str(error).removeprefix(SYMLINK_LOOP)) != str(error):
            looping = looping.strip("'")
            print(f"error: {printable(looping)}: its symbolic links lead in a circle", file=sys.stderr)
            return EXIT_USER_ERROR
        if isinstance(error, OSError) and error.errno in IN_THE_WAY:
            path = str(error.filename)
            path = printable(path, MAX_VALUE) if error.errno == errno.ENAMETOOLONG else printable(path)
            print(f"error: {path}: {IN_THE_WAY[error.errno] or error.strerror}", file=sys.stderr)
            return EXIT_USER_ERROR
        if (fault := _fault_of_machine(error)) is None:
            raise
        print(f"error: {printable(fault)}", file=sys.stderr)
        return EXIT_FAILURE


def _fault_of_machine(error: Exception) -> str | None:
    """Returns what this machine lacks, in one line; None if the error is ours, and needs its traceback."""
    from ..engines.failures import is_out_of_memory

    if is_out_of_memory(error):
        return f"memory ran out: {str(error) or 'no more could be had'}"
    if isinstance(error, OSError):  # the disk is full, a file cannot be read, ...
        return str(error)
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] not in ("sret_nas", "trials"):
        if isinstance(error, ModuleNotFoundError):
            return f"{error.name} is not installed here: pip install -e . installs all that is needed"
        return f"a library cannot be loaded: {error}"
    return None


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others are, without the usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Returns what was given, as argparse does, but refuses what a command does not know before its parent does.

        So the message names the command, and the option that may have been meant.
        """
        arguments = _with_negative_values(sys.argv[1:] if args is None else args)
        given, unknown = super().parse_known_args(arguments, namespace)
        if unknown and self._subparsers is None:
            known = [name for name in self._option_string_actions if name.startswith("--")]
            name = unknown[0].partition("=")[0]
            near = get_close_matches(name, known, n=1) if name.startswith("--") else []
            meant = f"; did you mean {near[0]}?" if near else f"; see {self.prog} --help"
            self.error(f"{self.prog} does not know {' '.join(unknown)}{meant}")
        return given, unknown

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits."""
        self.exit(EXIT_USER_ERROR, f"error: {printable(_reworded(message.removeprefix('argument '), self.prog))}\n")


def _with_negative_values(arguments: Sequence[str]) -> list[str]:
    """Returns arguments in which `--option -1G` is `--option=-1G`.

    To argparse, what begins with a minus and is no plain number is an option. The values' own parsers say more of it.
    """
    joined: list[str] = []
    for argument in arguments:
        is_value = re.match(r"-[.\d]", argument) is not None
        if is_value and joined and joined[-1].startswith("--") and len(joined[-1]) > 2 and "=" not in joined[-1]:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


_MISSING_VALUES = {"expected one argument": "a value", "expected at least one argument": "one value or more"}


def _reworded(message: str, program: str) -> str:
    """Returns argparse's message as the rule and what to do, such as `must be a whole number, got 'x'`."""
    for kind, rule in NUMBERS.items():
        before, found, value = message.partition(f"invalid {kind} value: ")
        if found:
            return f"{before}must be {rule}, got {value}"
    before, found, value = message.partition("ignored explicit argument ")
    if found:
        return f"{before}takes no value, got {value}"
    for ending, missing in _MISSING_VALUES.items():
        if message.endswith(ending):
            return f"{message.removesuffix(ending)}needs {missing} after it"
    if message.startswith("the following arguments are required"):
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
        help="print the script by which a shell completes commands and options",
    )  # fmt: skip
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (
        search, runs, space, profile, supernet, train, soft_labels, evaluate, landscape, export, predict, convert,
        study,
    ):  # fmt: skip
        command.add_command(commands)
    return parser
