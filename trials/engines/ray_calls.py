"""Calls to the head of a cluster with a time limit.

While the head is lost, Ray blocks inside C++, where Python cannot raise `KeyboardInterrupt`, and ends the whole process
after a minute. So another thread makes the call: the main thread stays open to Ctrl-C, and raises this project's error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

HEAD_SECONDS = 45.0
"""How long the head may take to answer. A restart takes a while, but Ray ends the process after 60 s."""
_STEP_SECONDS = 0.2


class HeadLostError(ConnectionError):
    """Raised when the head of a cluster no longer answers. Not a user's error, so the exit code is 1."""


def call_with_timeout(call: Callable[[], Answer], name: str) -> Answer:
    """Returns the answer of a call, or raises its error.

    Raises `HeadLostError` after `HEAD_SECONDS`. `name` is the cluster's, for the message.
    """
    pending, until = PendingCall(call), time.monotonic() + HEAD_SECONDS
    # In short steps: the system may deliver a signal to one of Ray's threads. Python runs its handler in this thread,
    # but not before the wait returns.
    while not pending.has_ended.wait(_STEP_SECONDS) and time.monotonic() < until:
        pass
    if not pending.has_ended.is_set():
        raise HeadLostError(
            f"{name} has not answered for {HEAD_SECONDS:g} s, so its head is lost; what was recorded is safe: carry on "
            "with --resume once there is a cluster again, or with --engine local"
        )
    if pending.error is not None:
        raise pending.error
    return pending.answers[0]


class PendingCall(Generic[Answer]):
    """A call running in its own thread. Its answer or error is there once `has_ended` is set."""

    def __init__(self, call: Callable[[], Answer]) -> None:
        self.answers: list[Answer] = []
        self.error: BaseException | None = None
        self.has_ended = threading.Event()
        self._call = call
        threading.Thread(target=self._run, name="call to Ray", daemon=True).start()

    def _run(self) -> None:
        try:
            self.answers.append(self._call())
        except BaseException as error:
            self.error = error
        self.has_ended.set()
