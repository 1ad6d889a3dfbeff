"""Keeps matplotlib from printing what nobody can act on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_matplotlib() -> Iterator[None]:
    """Hides the warnings of importing matplotlib, e.g. that the home directory cannot be written. It needs none."""
    logger = logging.getLogger("matplotlib")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
