"""Renamed options. The old name works for one more version, with a warning, and `--help` does not show it."""

from __future__ import annotations

import argparse
import sys
from typing import Any


class _OldName(argparse.Action):
    """Sets the renamed option, and prints a warning with the new name on standard error."""

    def __init__(self, option_strings: list[str], dest: str, new_name: str, **keywords: Any) -> None:
        super().__init__(option_strings, dest, **keywords)
        self.new_name = new_name

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        old = option_string or self.option_strings[0]
        print(f"warning: {old} is now called {self.new_name}; the next version drops the old name", file=sys.stderr)
        setattr(namespace, self.dest, values)


def add_renamed(group: Any, new_name: str, old_name: str, *, dest: str, **keywords: Any) -> None:
    """Declares an option under its new name, and hidden under its old one."""
    group.add_argument(new_name, dest=dest, **keywords)
    keywords["help"] = argparse.SUPPRESS
    group.add_argument(old_name, dest=dest, action=_OldName, new_name=new_name, **keywords)
