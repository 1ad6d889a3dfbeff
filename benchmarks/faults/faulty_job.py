"""A worker's job that does harm, really, when it meets the network that it was told to.

Which one, which harm and how often is in the environment, so that every worker of every engine knows.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import threading
from pathlib import Path
from typing import Any

from trials.worker.entry import JobRunner

VARIABLE = "FAULT"
"""JSON: `what`, the `network` it happens to, `times`, and a `folder` that counts how often it happened."""

MEMORY = 64 << 20
"""Bytes that a job may still take where memory is limited."""


class FaultyJobRunner:
    """Runs the real jobs; of one network's trial, the first attempts end badly."""

    def __init__(self) -> None:
        self._run_real_job = JobRunner()

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        fault = json.loads(os.environ[VARIABLE])
        is_meant = payload["kind"].endswith(fault["kind"])  # a trial is of one kind or another
        if not is_meant or name_of(payload) != fault["network"] or not _is_due(fault):
            return self._run_real_job(payload)
        if fault["what"] == "nan":
            return {**self._run_real_job(payload), "cross_entropy": math.nan}
        _HARM[fault["what"]]()
        return self._run_real_job(payload)


def name_of(payload: dict[str, Any]) -> str | None:
    """Returns a network, and of a trial how it is trained, as records name it; None for jobs that are of no network."""
    if "arch" not in payload:
        return None
    from sret_nas.arch.config import ArchConfig

    arch_id = ArchConfig.from_dict(payload["arch"], "job").arch_id
    return arch_id if payload["kind"] == "final" else f"{arch_id} {payload['depth_schedule']}"


def _is_due(fault: dict[str, Any]) -> bool:
    """Counts this time in, if it has not happened often enough."""
    for time in range(fault["times"]):
        try:
            Path(fault["folder"], f"time-{time}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return True
    return False


def _raise() -> None:
    raise ValueError("a fault of the benchmark's")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    threading.Event().wait()


def _exceed_memory() -> None:
    """Takes more memory than the system lets this process have, by torch, as a network would."""
    import torch

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    torch.ones(4 * MEMORY)


_HARM = {"exception": _raise, "worker killed": _die, "hang": _hang, "memory": _exceed_memory}
