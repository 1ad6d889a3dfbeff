"""Tells whether a worker was suspended (SIGSTOP, a laptop's lid, a paused machine) while it had a job.

A job that misses its time limit because of that is not to blame, and may be tried again.
"""

from __future__ import annotations

from pathlib import Path

MAX_OVERSLEEP = 10.0
"""Seconds that a wait may take longer than asked for; beyond them the driver itself was suspended, workers with it."""


def is_suspended(process_id: int | None) -> bool:
    """Returns whether a process of this machine is stopped by a signal or a debugger; False where nothing is known."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] in ("T", "t")
