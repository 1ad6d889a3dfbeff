"""Jobs that engine tests run in worker processes: importable by name, without torch."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from trials.engines import conformance


def misbehave(payload: dict[str, Any]) -> dict[str, Any]:
    """Does what the conformance test asks for, and what takes a worker process to show."""
    what = payload["do"]
    if what == "signals":
        blocked = "blocked" if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set()) else "open"
        ignored = "ignored" if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else "heard"
        return {"sigint": f"{blocked} and {ignored}"}
    if what == "hang deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Event().wait()
    if what == "hang":
        threading.Event().wait()
    if what == "exit":
        os._exit(3)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "answer at length":
        return {"process": os.getpid(), "value": "x" * payload["length"]}
    return conformance.misbehave(payload)
