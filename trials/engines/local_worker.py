"""The life of one of the local engine's worker processes.

This module imports next to nothing, so that a worker watches its driver before it imports what its jobs need: that may
take many seconds, in which compiled modules hold the interpreter's lock and no thread of Python runs.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection

PARENT_CHECK_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def serve(pickled_run_job: bytes, connection: Connection, parent: int) -> None:
    """Runs one job after the other; `pickled_run_job` does so, and is unpickled once the driver is watched."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent(parent)
    from .failures import failure_of

    run_job = pickle.loads(pickled_run_job)  # noqa: S301 - from the driver, through its own pipe
    while True:
        try:
            payload = connection.recv()
        except EOFError:
            return
        result, failure = None, None
        try:
            result = run_job(payload)
        except Exception as error:
            failure = failure_of(error).model_dump(mode="json")
        connection.send((result, failure))


def _end_with_parent(parent: int) -> None:
    """Ends this process soon after the driver is gone, even by SIGKILL, in mid-training and in mid-import.

    Linux sees to it when the thread that started this process ends; elsewhere a thread looks now and then.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it was gone before
        os._exit(1)


def _watch(parent: int) -> None:
    done = threading.Event()
    while os.getppid() == parent:
        done.wait(PARENT_CHECK_SECONDS)
    os._exit(1)
