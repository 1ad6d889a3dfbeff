"""A program that starts a Ray on this machine for one search, and ends it when the search is gone.

The search does not start Ray itself, because Ray would move the search's process into a new process group, where a
terminal's Ctrl-C might not reach it. This program prints the address and waits until its standard input is closed, as
it is when the search ends, even if it is killed.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys

from .ray_internals import SmallNode


def main(folder: str, num_cpus: int | None, ray_folder: str) -> None:
    """Starts Ray, ends it when standard input is closed, and removes its folder."""
    # The search handles Ctrl-C and a closed terminal. This process ends after it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    node = SmallNode(num_cpus, ray_folder)
    print(json.dumps(node.gcs_address), flush=True)
    sys.stdin.read()
    node.end()
    shutil.rmtree(folder, ignore_errors=True)  # the search cannot, if it was killed


if __name__ == "__main__":
    main(sys.argv[1], **json.loads(sys.argv[2]))
