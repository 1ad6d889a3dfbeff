"""Names new run directories and the versions that a run is recorded with."""

from __future__ import annotations

import itertools
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def new_run_dir() -> Path:
    """`runs/DATE-TIME`, numbered where two searches start in one second."""
    name = time.strftime("%Y-%m-%d-%H%M%S")
    candidates = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return next(path for path in candidates if not path.exists())


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a search finds."""
    found = {"python": sys.version.split()[0]}
    for package in ("sret-nas", "torch", "optuna", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # e.g. a checkout on the path, not installed
            found[package] = "not installed"
    return found
