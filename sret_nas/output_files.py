"""The one rule for files that commands write: never over what they read, over what exists only with `--force`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sret_nas.errors import UserError


def require_free(outputs: Iterable[Path], *, reads: Iterable[Path], force: bool = False, option: str = "--out") -> None:
    """Checks that no output of a command would destroy anything; call it first, and again right before writing.

    Other spellings of a path, links to a file and hard links count as the file itself.

    Args:
        outputs: Files to be written.
        reads: Files and folders that the command reads; what is missing among them is ignored.
        force: Whether existing files may be replaced. What the command reads is kept all the same.
        option: The option that names the outputs, for the message.

    Raises:
        UserError: The first output that may not be written, and why.
    """
    sources = [source for source in reads if source.exists()]
    for output in outputs:
        if not os.path.lexists(output):
            continue
        if output.is_dir():
            raise UserError(f"{output} is a folder: name another {option}")
        if any(_is_part_of(output, source) for source in sources):
            raise UserError(f"{output} is read by this command, which never writes over it: name another {option}")
        if not force:
            raise UserError(f"{output} exists already: name another {option}, or write over it with --force")


def require_empty_folder(folder: Path, option: str = "--out") -> None:
    """Checks that a folder can be filled with results: it does not exist yet, or holds nothing.

    Raises `UserError` otherwise, with the first thing that it holds.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UserError(f"{folder} must be a folder, got a file: name another {option}")
    held = sorted(entry.name for entry in folder.iterdir())
    if held:
        raise UserError(f"{folder} is not empty (it holds {held[0]}): name an {option} that does not exist yet")


def _is_part_of(output: Path, source: Path) -> bool:
    """Whether an output is a file that is read, or lies in a folder that is."""
    if source.is_dir():
        return output.resolve().is_relative_to(source.resolve())
    return output.exists() and output.samefile(source)
