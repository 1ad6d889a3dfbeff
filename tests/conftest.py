"""What every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import REPOSITORY
from trials import interruption

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: `pytest -n auto` has a process for each core
pytest.register_assert_rewrite("trials.engines.conformance", "trials.strategies.conformance")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-golden", action="store_true", help="write golden files that are not there (test_golden.py)"
    )


@pytest.fixture(autouse=True)
def _no_signal_is_left() -> Iterator[None]:
    """A signal that one test sent to this process is not counted as the first of two by the next."""
    yield
    interruption._pending.clear()
    interruption._received.clear()
    signal.alarm(0)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference data beside the checkout; tests that need it are skipped where it is absent."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip("the reference data beside the checkout is not here")
    return path
