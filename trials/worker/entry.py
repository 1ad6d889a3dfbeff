"""The entry to a worker, importable without torch so that the driver of a search stays light."""

from __future__ import annotations

from typing import Any


def run_job(payload: dict[str, Any]) -> dict[str, Any]:
    """Runs one job (see `trials.engines.messages`) in this process; the first call imports torch."""
    from trials.worker.dispatch import execute

    return execute(payload)
