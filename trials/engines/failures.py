"""Why a job failed, as it is recorded."""

from __future__ import annotations

import errno
import traceback

from sret_nas.errors import UserError

from ..data.prepared import ImagesChangedError
from ..training.recipe import DivergedError
from .messages import Failure, FailureCause

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No room on the disk, in the user's quota, or up to the largest file that is allowed (`ulimit -f`)."""


def is_full(error: Exception) -> bool:
    """Whether an error says that there is no room to write."""
    return isinstance(error, OSError) and error.errno in _FULL


def timed_out(time_limit: float) -> Failure:
    """That a job was ended because it took longer than it may."""
    return Failure(cause="timed out", message=f"it took longer than the {time_limit:g} s that it may take")


def failure_of(error: Exception) -> Failure:
    """An exception in a job as a recorded failure. Call it where the exception is handled."""
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
    # torch's OutOfMemoryError is known by its name, since naming it would import torch into the driver
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in message:
        cause = "out of memory"
    return Failure(cause=cause, message=message, traceback=traceback.format_exc())
