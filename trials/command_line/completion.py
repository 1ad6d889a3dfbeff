"""`--print-completion SHELL`: a script with which a shell completes our commands and options, by shtab."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")


class PrintCompletion(argparse.Action):
    """Prints the script of a shell and ends the program, as `--version` does."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        try:
            import shtab
        except ModuleNotFoundError:
            parser.error("--print-completion needs shtab, which is not installed: pip install -e '.[completion]'")
        parser.prog = "sret-nas"  # shells complete the installed program, however this one was started
        print(re.sub(r"[ \t]+$", "", shtab.complete(parser, shell=str(values)), flags=re.MULTILINE))
        parser.exit()
