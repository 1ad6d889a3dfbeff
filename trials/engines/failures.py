"""Converts exceptions in jobs to recorded failures with a cause."""

from __future__ import annotations

import errno
import traceback

from sret_nas.errors import UserError

from ..data.prepared import ImagesChangedError
from ..training.recipe import DivergedError
from .results import Failure, FailureCause

_DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""The disk is full, the user's quota is used up, a file reached the limit of `ulimit -f`, or the disk became
read-only, as Linux does to one with errors."""


_OUT_OF_MEMORY_WORDS = ("can't allocate", "failed to map segment")


def is_full(error: Exception) -> bool:
    """Returns whether an error means that nothing can be written any more, whatever is written."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL_ERRORS


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether an error means that memory, of the machine or of a GPU, did not suffice."""
    # By name: importing torch's OutOfMemoryError would load torch in the driver. The CPU allocator raises RuntimeError,
    # and loading a library raises ImportError where the address space is limited (`ulimit -v`).
    is_named_so = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    is_refused = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return is_named_so or is_refused or any(words in str(error) for words in _OUT_OF_MEMORY_WORDS)


def timed_out(time_limit: float) -> Failure:
    """Returns the failure of a job that was ended at its time limit, in seconds."""
    return Failure(cause="timed out", message=f"it took longer than its time limit of {time_limit:g} s")


def suspended(time_limit: float) -> Failure:
    """Returns the failure of a job whose worker was suspended beyond its time limit, in seconds."""
    message = f"its worker was suspended beyond the {time_limit:g} s that it may take"
    return Failure(cause="suspended", message=message)


def failure_of(error: Exception) -> Failure:
    """Converts an exception to a failure. Must be called in its `except` block, for the traceback."""
    cause: FailureCause = "exception"
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, ImagesChangedError):
        cause, message = "images changed", str(error)
    elif isinstance(error, UserError):
        cause, message = "refused", str(error)
    elif isinstance(error, DivergedError):
        cause, message = "diverged", str(error)
    elif is_full(error):
        cause, message = "disk full", str(error)
    elif is_out_of_memory(error):
        cause = "out of memory"
    return Failure(cause=cause, message=message, traceback=traceback.format_exc())
