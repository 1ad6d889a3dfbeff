"""Calls that ask the head of a cluster, and that Ray does not come back from while the head is lost.

Python can raise nothing meanwhile, and after a minute Ray would end the whole process. So they are made by another
thread: Ctrl-C gets through, and it is this project that says what happened.
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


def answer_to(call: Callable[[], Answer], name: str) -> Answer:
    """What the call returns or raises. Raises `HeadLostError` if it takes too long; `name` is the cluster's."""
    asking, until = _Asking(call), time.monotonic() + HEAD_SECONDS
    # In steps, because the system may give a signal to one of Ray's threads, which does not wake this one
    while not asking.has_ended.wait(_STEP_SECONDS) and time.monotonic() < until:
        pass
    if not asking.has_ended.is_set():
        raise HeadLostError(
            f"{name} has not answered for {HEAD_SECONDS:g} s, so its head is lost; what was recorded is safe: carry on "
            "with --resume once there is a cluster again, or with --engine local"
        )
    if asking.error is not None:
        raise asking.error
    return asking.answers[0]


class _Asking(Generic[Answer]):
    def __init__(self, call: Callable[[], Answer]) -> None:
        self.answers: list[Answer] = []
        self.error: BaseException | None = None
        self.has_ended = threading.Event()
        self._call = call
        threading.Thread(target=self._ask, name="question to Ray", daemon=True).start()

    def _ask(self) -> None:
        try:
            self.answers.append(self._call())
        except BaseException as error:
            self.error = error
        self.has_ended.set()
