"""A Ray on this machine, for one search: a process of its own that starts it, and ends it when the search is gone.

The search does not start Ray itself, since Ray would take the search's process into a process group of its own, where
a terminal's Ctrl-C might not reach it any more. Run as a program, this one prints the address and waits for the end
of its standard input.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import tempfile
from typing import Any

import ray


def main(resources: dict[str, Any]) -> None:
    """Starts Ray with these resources, and ends it when the standard input ends."""
    # Ctrl-C and the like are the search's, whose end this process sees
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    # In a short folder, because it holds sockets, whose names may not be long
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        context = ray.init(
            address="local",
            **resources,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
        print(json.dumps(context["gcs_address"]), flush=True)  # type: ignore[index]
        sys.stdin.read()
        ray.shutdown()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
