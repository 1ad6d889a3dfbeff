"""Calls to the head of a cluster with a time limit.

While the head is lost, Ray blocks inside C++, where Python cannot raise `KeyboardInterrupt`, and ends the whole process
after a minute. Another thread makes the call, so that Ctrl-C gets through and the error is this project's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

HEAD_SECONDS = 45.0
"""How long the head may take to answer. One that restarts may take a while; Ray ends the process after 60 s."""
_STEP_SECONDS = 0.2


class HeadLostError(ConnectionError):
    """The head of a cluster does not answer any more: no mistake of the user's, so the exit code is 1."""


def call_with_timeout(call: Callable[[], Answer], name: str) -> Answer:
    """Returns or raises what the call does. Raises `HeadLostError` if it takes too long; `name` is the cluster's."""
    pending, until = PendingCall(call), time.monotonic() + HEAD_SECONDS
    # In steps, because the system may give a signal to one of Ray's threads, which does not wake this one
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
    """A call that a thread of its own has begun, with its answer or error once `has_ended` is set."""

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
