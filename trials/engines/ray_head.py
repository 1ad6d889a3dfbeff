"""A Ray on this machine, for one search: a process of its own that starts it, and ends it when the search is gone.

The search does not start Ray itself, since Ray would take the search's process into a process group of its own, where
a terminal's Ctrl-C might not reach it any more. Run as a program, this one prints the address and waits for the end
of its standard input.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import sys
from typing import Any

import ray


def main(folder: str, options: dict[str, Any]) -> None:
    """Starts Ray with these options, ends it when the standard input ends, and removes the folder that holds it."""
    # Ctrl-C and the like are the search's, whose end this process sees
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    context = ray.init(
        address="local", **options, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    print(json.dumps(context["gcs_address"]), flush=True)  # type: ignore[index]
    sys.stdin.read()
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)  # the search, if it was killed, cannot


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
