"""Jobs that engine tests run in worker processes: importable by name, without torch."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from trials.training.recipe import DivergedError


def misbehave(payload: dict[str, Any]) -> dict[str, Any]:
    """Does what the payload says: squares a number, or fails in one of several ways."""
    what = payload["do"]
    if what == "square":
        return {"value": payload["value"] ** 2, "process": os.getpid()}
    if what == "signals":
        blocked = "blocked" if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set()) else "open"
        ignored = "ignored" if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else "heard"
        return {"sigint": f"{blocked} and {ignored}"}
    if what == "raise":
        raise ValueError("no such luck")
    if what == "diverge":
        raise DivergedError("the loss is nan")
    if what == "run out of memory":
        return {"value": len(bytearray(1 << 62))}  # a real MemoryError: no machine has 4 EiB
    if what == "fill the disk":
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")
    if what == "hang deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Event().wait()
    if what == "hang":
        threading.Event().wait()
    if what == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}
