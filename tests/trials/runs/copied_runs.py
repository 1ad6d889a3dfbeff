"""A run directory that is copied: what its files hold, and what is said of it."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from trials.runs.directory import RECORDS_FILE


def quiet() -> Console:
    return Console(file=io.StringIO(), width=500)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def await_that(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Waits until a condition holds that another thread or process brings about."""
    until, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < until, f"still not so after {seconds} s"
        pause.wait(0.01)


def files_in(folder: Path) -> dict[str, bytes]:
    while True:
        with suppress(FileNotFoundError):  # a file or folder that was deleted meanwhile: look again
            return {
                path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
            }


def append(run_dir: Path, lines: bytes) -> None:
    with (run_dir / RECORDS_FILE).open("ab") as file:
        file.write(lines)
