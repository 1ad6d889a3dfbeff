"""Processes that a test knows by a mark in their environment, and waiting for what another process does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

MARK = "SRET_NAS_TEST"
"""Environment variable by which a test knows the processes that come from it."""


def await_that(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits until another process makes a condition true."""
    until, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < until, f"still not so after {seconds} s"
        pause.wait(0.05)


def processes_with(mark: str) -> list[str]:
    """Returns the command lines of all processes with a mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended meanwhile
            continue
    return found
