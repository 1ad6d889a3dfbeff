"""Ctrl-C that cannot be lost.

Python raises `KeyboardInterrupt` wherever the main thread happens to be. Inside a finaliser or a callback from C it is
printed and dropped there, and the search would go on as if nothing had been pressed. So a signal is remembered as well,
and the loops of a search ask. And in the middle of a training step it would leave weights that no checkpoint may keep:
there a signal is only remembered, and the step ends first. Whoever presses again does not want to wait: the second one
gives the step up.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, and the same from a scheduler or a closed terminal."""

_pending: list[int] = []


class StepGivenUp(KeyboardInterrupt):
    """A second signal, in the middle of what must not be interrupted: what it was doing is half done."""


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


@contextmanager
def interruptions_remembered() -> Iterator[list[int]]:
    """Inside, a signal is put into the list and does nothing else. Only the main thread gets any.

    The second one raises `StepGivenUp`.
    """
    remembered: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        remembered.append(number)
        if len(remembered) > 1:
            raise StepGivenUp

    if threading.current_thread() is not threading.main_thread():
        yield remembered
        return
    before = {number: signal.signal(number, remember) for number in _SIGNALS}
    try:
        yield remembered
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
