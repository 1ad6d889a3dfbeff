"""Ctrl-C between two steps: an interruption in the middle of one would leave weights that no checkpoint may keep."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, and the same from a scheduler or a closed terminal."""


@contextmanager
def interruptions_remembered() -> Iterator[list[int]]:
    """Inside, signals that would interrupt are put into the list and do nothing else. Only the main thread gets any."""
    remembered: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        remembered.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield remembered
        return
    before = {number: signal.signal(number, remember) for number in _SIGNALS}
    try:
        yield remembered
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
