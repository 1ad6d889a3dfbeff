"""Where Ray is imported, which not every installation has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sret_nas.errors import UserError


@contextmanager
def ray_needed() -> Iterator[None]:
    """Where Ray is imported, which not everybody has. Raises `UserError` if it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"--engine ray needs Ray ({error}): pip install -e '.[ray]'") from None
