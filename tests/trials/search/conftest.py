"""What tests of whole searches may use."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest

from trials.engines import local


@pytest.fixture(scope="module", autouse=True)
def _forked_workers() -> Iterator[None]:
    """Lets workers be copies of this process, which has imported torch: a new one takes seconds to do so.

    Searches that tests start as a process of its own have new ones, and so have the engine's tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_CONTEXT", multiprocessing.get_context("fork"))
        yield
