"""The options that say where the processes of one training run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sret_nas.errors import UserError

from . import shared_options

if TYPE_CHECKING:
    from ..distributed.launcher import RayPlacement

_OF_RAY = ("ray_address", "workers", "gpus_per_worker")
OF_PROCESSES = ("engine", *_OF_RAY)
"""Names of the options that `add_processes` declares."""


def add_processes(group: Any) -> None:
    """Declares where the processes of one training run: in this one, or on Ray. `placement_of` reads the answer."""
    group.add_argument(
        "--engine", choices=("local", "ray"),
        help="what runs the training: local (this process) or ray (processes on this machine or a cluster) "
        "(default: local)",
    )  # fmt: skip
    shared_options.add_ray_address(group)
    group.add_argument(
        "--workers", type=int, metavar="N",
        help="processes on Ray, each with its share of every batch (default: one per GPU, or one per machine without "
        "GPUs)",
    )  # fmt: skip
    group.add_argument(
        "--gpus-per-worker", type=int, metavar="N", help="GPUs of a process on Ray, 0 or 1 (default: 1 if Ray has GPUs)"
    )


def placement_of(given: argparse.Namespace) -> RayPlacement | None:
    """Returns how Ray places processes; None to train here. Raises `UserError` if the options contradict."""
    from ..distributed.launcher import RayPlacement

    address, processes, gpus = (vars(given).get(name) for name in _OF_RAY)
    if vars(given).get("engine", "local") == "local":
        for name in _OF_RAY:
            if name in given:
                raise UserError(f"--{name.replace('_', '-')} goes with --engine ray")
        return None
    if processes is not None and processes < 1:
        raise UserError(f"--workers must be at least 1, got {processes}")
    if gpus not in (None, 0, 1):
        raise UserError(f"--gpus-per-worker must be 0 or 1, since a process trains on one GPU, got {gpus}")
    return RayPlacement(address, processes, gpus)
