"""Ctrl-C that cannot be lost.

Python raises `KeyboardInterrupt` wherever the main thread happens to be. Inside a finaliser or a callback from C it is
printed and dropped there, and the search would go on as if nothing had been pressed. So a signal is remembered as well,
and the loops of a search ask. And in the middle of a training step it would leave weights that no checkpoint may keep:
there a signal is only remembered, and the step ends first.

Whoever presses again does not want to wait: the second one gives the step up, and from then on the system itself counts
the seconds. Python alone may take many to take itself down on a busy machine, or never end in a library that hangs.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, and the same from a scheduler or a closed terminal."""

SECONDS_TO_END = 8
"""After the second signal; then the system ends the process, whatever it does. Workers end with it."""

_pending: list[int] = []
"""Signals that nothing has noticed yet."""
_received: list[int] = []
"""All of them."""
_in_threads: list[list[int]] = []
"""The lists of threads that remember interruptions; the system sends them none."""


class StepAborted(KeyboardInterrupt):
    """A second signal, in the middle of what must not be interrupted: what it was doing is half done."""


def handle_interruptions() -> None:
    """From here on, each of the signals raises `KeyboardInterrupt` and is remembered until it has been noticed."""
    _pending.clear()
    _received.clear()
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def raise_if_interrupted() -> None:
    """Raises the `KeyboardInterrupt` of a signal that nothing has noticed yet."""
    if _pending:
        _pending.clear()
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    _pending.append(number)
    _count(number)
    raise KeyboardInterrupt


def _count(number: int) -> bool:
    """Whether it is the second signal or a later one; the second sets the clock."""
    _received.append(number)
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun passes on what the terminal has sent already: all come twice
        return False
    if len(_received) == 2:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS_TO_END)
    return len(_received) > 1


@contextmanager
def ignore_signals_after_interrupt() -> Iterator[None]:
    """An interruption that leaves this has ended all that there was: later signals have nothing to interrupt.

    In what Python does to end itself they would only leave a traceback; the second one sets the clock, as ever.
    """
    try:
        yield
    except KeyboardInterrupt:
        for number in _SIGNALS:
            if signal.getsignal(number) is _interrupt:
                signal.signal(number, _count_only)
        raise


def _count_only(number: int, frame: FrameType | None) -> None:
    _count(number)


@contextmanager
def defer_interrupts() -> Iterator[list[int]]:
    """Inside, a signal is put into the list and does nothing else. Threads get theirs from `interrupt_threads` alone.

    The second one, counted from `handle_interruptions`, raises `StepAborted`; without that call, none does.
    """
    remembered: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        remembered.append(number)
        if before[signal.Signals(number)] is _interrupt and _count(number):
            raise StepAborted

    if threading.current_thread() is not threading.main_thread():
        _in_threads.append(remembered)
        try:
            yield remembered
        finally:
            _in_threads[:] = [other for other in _in_threads if other is not remembered]
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for each in _SIGNALS:
        signal.signal(each, remember)
    try:
        yield remembered
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def interrupt_threads() -> bool:
    """Ctrl-C for the threads that remember it, in a process that gets none; whether there was one to hear it."""
    for remembered in _in_threads:
        remembered.append(signal.SIGINT)
    return bool(_in_threads)
