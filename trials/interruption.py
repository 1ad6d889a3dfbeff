"""Ctrl-C that cannot be lost.

Python raises `KeyboardInterrupt` wherever the main thread happens to be. Inside a finaliser or a callback from C it is
printed and dropped there, and the search would go on as if nothing had been pressed. So a signal is remembered as well,
and the loops of a search ask.
"""

from __future__ import annotations

import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, and the same from a scheduler or a closed terminal."""

_pending: list[int] = []


def handle_interruptions() -> None:
    """From here on, each of the signals raises `KeyboardInterrupt` and is remembered until it has been noticed."""
    _pending.clear()
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def raise_if_interrupted() -> None:
    """Raises the `KeyboardInterrupt` of a signal that nothing has noticed yet."""
    if _pending:
        _pending.clear()
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    _pending.append(number)
    raise KeyboardInterrupt
