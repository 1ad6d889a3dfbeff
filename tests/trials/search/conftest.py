"""What tests of whole searches may use."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trials.scripted_engine import Clock
from tests.trials.search.scripted_session import Session, found
from trials.engines import local


@pytest.fixture(scope="module", autouse=True)
def _forked_workers() -> Iterator[None]:
    """Lets workers be copies of this process, which has imported torch: a new one takes seconds to do so.

    Searches that tests start as a process of its own have new ones, and so have the engine's tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_CONTEXT", multiprocessing.get_context("fork"))
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (
        "trials.engines.retries",
        "trials.runs.records",
        "trials.report.progress",
    ):
        monkeypatch.setattr(f"{module}.time", clock)
    return clock


@pytest.fixture
def undisturbed(tmp_path: Path) -> list[tuple[str, float | None]]:
    Session(tmp_path / "undisturbed").run()
    return found(tmp_path / "undisturbed")
