"""Names of new run directories and of files in them, and the package versions that a run records."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TextIO

from sret_nas.errors import UserError

RECORDS_FILE = "records.jsonl"
"""File in a run directory with all events of its search or study, from which the other files are derived."""

TRAINING = "training.yaml"
"""File in the directory of a training, of a network or a supernet, with all that resuming needs."""

LANDSCAPE_FILE = "landscape.jsonl"
"""File in the folder of a landscape with its header and points."""

LOCK_FILE = "lock"
"""File in a run directory that names the process that writes there, and that the system unlocks when it ends."""

WEIGHTS = "weights"
"""Folder in the run directory with the trained weights of proxies, each with the YAML file of its network."""


SUPERNET = "supernet.safetensors"
"""A trained supernet's file, in the directory of its training."""

SUPERNET_DIR = "supernet"
"""Folder in a search's run directory: the supernet, its checkpoint, its TensorBoard scalars."""


@contextmanager
def locked(run_dir: Path, work: str) -> Iterator[None]:
    """Keeps other processes out of the directory of a training while the block runs.

    Raises `UserError` if another one is in it, or if it cannot be written. Unlike `flock`, this lock is not inherited
    by processes that read images, which may live a few seconds longer than a training that was killed.

    Args:
        run_dir: The directory, which is created if it does not exist.
        work: What runs there, in the message.
    """
    path = run_dir / LOCK_FILE
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = _locked_file(path, work)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{run_dir} cannot be written: {error.strerror}") from None
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked_file(path: Path, work: str) -> TextIO:
    """Opens and locks a file, which is the one at `path` still when it is locked. Raises `UserError` if it is in use.

    Who ends removes the file. A process that opened it before that would lock a file that nobody else can find.
    """
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - the caller closes it
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                raise UserError(f"{path.parent} is in use by another {work} ({file.read().strip()})") from None
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()


def is_in_use(run_dir: Path) -> bool:
    """Returns whether another process holds the lock of a run directory, of a search or of a training."""
    try:
        with open(run_dir / LOCK_FILE, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # a search's
            fcntl.lockf(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # that of `locked`
    except BlockingIOError:
        return True
    except OSError:  # no lock, or none that can be read
        return False
    return False


def require_new_training(run_dir: Path) -> None:
    """Raises `UserError` if a directory holds a training already."""
    if (run_dir / TRAINING).exists():
        raise UserError(f"{run_dir} holds a training already: carry it on with --resume {run_dir}")


def record_new_training(run_dir: Path, write: Callable[[Path], None]) -> None:
    """Writes the record of a training that begins, unless another one began in the directory meanwhile.

    Args:
        run_dir: The directory, which is created if it does not exist.
        write: Writes `TRAINING` into it.

    Raises `UserError` if the directory holds a training already, or another process writes there.
    """
    with locked(run_dir, "training"):
        require_new_training(run_dir)
        write(run_dir)


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


def is_unicode(text: str) -> bool:
    """Returns whether records can hold a text: names of files that are not UTF-8 have half surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
