"""Reports a missing installation of Ray, which is an optional dependency."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sret_nas.errors import UserError


@contextmanager
def ray_needed() -> Iterator[None]:
    """Raises `UserError` if a module that the block imports is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"--engine ray and tune need Ray ({error}): pip install -e '.[ray]'") from None
