"""Processes that are to be killed, as copies of this one, which has imported torch and all else already."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TextIO


class Forked:
    """Runs a function in a copy of this process, with what it prints in a pipe; used as a `subprocess.Popen`.

    Where a test needs the state of a new process, such as its modules, it has to start one. A process with threads that
    compute must not be copied: our tests have none (`OMP_NUM_THREADS` is 1).
    """

    def __init__(self, run: Callable[[], int | None]) -> None:
        """Starts the process. The function's result is its exit code; None is 0."""
        sys.stdout.flush()
        sys.stderr.flush()
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            self._become(run, writing)
        os.close(writing)
        self.stdout: TextIO = os.fdopen(reading)
        self.returncode: int | None = None

    @staticmethod
    def _become(run: Callable[[], int | None], writing: int) -> None:
        """Runs the function, and ends the process without any of pytest's code."""
        code = 1
        try:
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            os.close(writing)
            sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            code = run() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self) -> tuple[str, None]:
        """Returns the rest of what it prints, once it and all that it started have closed the pipe, and its end."""
        with self.stdout:
            told = self.stdout.read()
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        return told, None
