"""Names of new run directories and of files in them, and the package versions that a run records."""

from __future__ import annotations

import itertools
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sret_nas.errors import UserError

WEIGHTS = "weights"
"""Folder in the run directory with the trained weights of proxies, each with the YAML file of its network."""


SUPERNET = "supernet.safetensors"
"""A trained supernet's file, in the directory of its training."""

SUPERNET_DIR = "supernet"
"""Folder in a search's run directory: the supernet, its checkpoint, its TensorBoard scalars."""


def supernet_file(path: Path) -> Path:
    """Returns the supernet's file that a path means: itself, or the one in a training's or a search's directory.

    Raises `UserError` for a directory without one.
    """
    if not path.is_dir():
        return path
    for folder in (path, path / SUPERNET_DIR):
        if (folder / SUPERNET).is_file():
            return folder / SUPERNET
    raise UserError(
        f"{path}: there is no trained supernet in this directory, neither {SUPERNET} nor {SUPERNET_DIR}/{SUPERNET}"
    )


def weights_file(trial: int) -> str:
    """Returns the path, in the run directory, of the weights that a trial's proxy was trained to."""
    return f"{WEIGHTS}/trial-{trial:04d}.safetensors"


def new_run_dir() -> Path:
    """Returns `runs/DATE-TIME`, with a number after it if that exists already."""
    name = time.strftime("%Y-%m-%d-%H%M%S")
    candidates = (Path("runs") / (name if copy == 1 else f"{name}-{copy}") for copy in itertools.count(1))
    return next(path for path in candidates if not path.exists())


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that affect a search's results."""
    installed = {"python": sys.version.split()[0]}
    for package in ("sret-nas", "torch", "optuna", "numpy"):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:  # e.g. a checkout on the path, not installed
            installed[package] = "not installed"
    return installed
