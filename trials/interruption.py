"""Signal handling that loses no Ctrl-C and interrupts no training step.

Python raises `KeyboardInterrupt` wherever the main thread happens to be. In a finaliser or a callback from C, Python
prints the exception and drops it, and the search would go on. So the handler also records the signal, and the loops of
a search call `raise_if_interrupted`. A library in Rust or C may wrap the exception in one of its own, as pydantic does
(`unwrapped_interrupts`). In the middle of a training step, the exception would leave half-updated weights,
which no checkpoint may hold. So during a training a signal is only recorded (`defer_interrupts`), and the loop stops
after the step.

A second signal aborts the step and sets a timer (SIGALRM), at the end of which the system kills the process. Python
cannot be trusted to exit in time: its shutdown can take long on a busy machine, or hang in a library.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the end of a scheduler's time, a closed terminal."""

SECONDS_TO_END = 8
"""From the second signal to the end of the process, whatever it is doing. Its workers end with it."""

_pending: list[int] = []
"""Signals since the last `raise_if_interrupted`."""
_received: list[int] = []
"""All signals since `handle_interruptions`."""
_deferred_in_threads: list[list[int]] = []
"""Lists of deferred signals, one per thread in `defer_interrupts`. Python runs handlers in the main thread only."""


class StepAborted(KeyboardInterrupt):
    """Raised by a second signal inside `defer_interrupts`: the step is half done, and its weights must not be saved."""


def handle_interruptions() -> None:
    """Makes SIGINT, SIGTERM and SIGHUP raise `KeyboardInterrupt` and stay recorded until `raise_if_interrupted`."""
    _pending.clear()
    _received.clear()
    for signum in _SIGNALS:
        signal.signal(signum, _interrupt)


def raise_if_interrupted() -> None:
    """Raises `KeyboardInterrupt` if a signal has come since the last call, even if Python dropped its exception."""
    if _pending:
        _pending.clear()
        raise KeyboardInterrupt


@contextmanager
def unwrapped_interrupts() -> Iterator[None]:
    """Raises `KeyboardInterrupt` in place of a library's exception that holds the one of a signal.

    Pydantic's serialisers run functions of ours, and turn whatever these raise into a `PydanticSerializationError`.
    """
    try:
        yield
    except Exception as error:
        if _pending and _holds_interrupt(error):
            _pending.clear()
            raise KeyboardInterrupt from error
        raise


def _holds_interrupt(error: BaseException | None) -> bool:
    """Returns whether an exception, or one that led to it, is a `KeyboardInterrupt` or quotes one."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or KeyboardInterrupt.__name__ in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _interrupt(signum: int, frame: FrameType | None) -> None:
    _pending.append(signum)
    _count(signum)
    raise KeyboardInterrupt


def _count(number: int) -> bool:
    """Records a signal and returns whether it is not the first. The second one sets the timer."""
    _received.append(number)
    # A terminal sends Ctrl-C to the whole process group, and torchrun forwards its own: one key press comes twice.
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return False
    if len(_received) == 2:
        # The default action ends the process without any Python code, which a hanging C call would keep from running.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS_TO_END)
    return len(_received) > 1


@contextmanager
def ignore_signals_after_interrupt() -> Iterator[None]:
    """Ignores further signals after a `KeyboardInterrupt` has left this block.

    During Python's own shutdown they could only print tracebacks. The second signal still sets the timer.
    """
    try:
        with unwrapped_interrupts():
            yield
    except KeyboardInterrupt:
        for signum in _SIGNALS:
            if signal.getsignal(signum) is _interrupt:
                signal.signal(signum, _count_only)
        raise


def _count_only(signum: int, frame: FrameType | None) -> None:
    _count(signum)


@contextmanager
def defer_interrupts() -> Iterator[list[int]]:
    """Yields a list to which signals are appended, instead of raising, while the block runs.

    The second signal since `handle_interruptions` raises `StepAborted`. Without a call of that function, no signal
    raises. In a thread other than the main one, signals come from `interrupt_threads` alone, because Python neither
    runs nor lets them set handlers there.
    """
    deferred: list[int] = []

    def defer(number: int, frame: FrameType | None) -> None:
        deferred.append(number)
        # Where another program (a test, a notebook) has its own handlers, the second Ctrl-C is not ours to act on.
        if handlers[signal.Signals(number)] is _interrupt and _count(number):
            raise StepAborted

    if threading.current_thread() is not threading.main_thread():
        _deferred_in_threads.append(deferred)
        try:
            yield deferred
        finally:
            # By identity: lists of other threads may be equal, and are, while both are empty.
            _deferred_in_threads[:] = [other for other in _deferred_in_threads if other is not deferred]
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        signal.signal(number, defer)
    try:
        yield deferred
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def interrupt_threads() -> bool:
    """Interrupts all threads that are in `defer_interrupts`, as Ctrl-C would, and returns whether there are any.

    For a process that gets no signals itself, such as an actor on another machine.
    """
    for deferred in _deferred_in_threads:
        deferred.append(signal.SIGINT)
    return bool(_deferred_in_threads)
