"""What every test may use."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests import REPOSITORY
from trials import interruption
from trials.machine import num_cores

if TYPE_CHECKING:
    from tests.scheduling import FileScheduling

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: `pytest -n auto` has a process for each core
os.environ.setdefault("RAY_worker_niceness", "0")  # not 15, or the tests beside leave Ray's workers hardly any time
hypothesis.settings.register_profile("suite", deadline=None)  # on a busy machine every example may take long
hypothesis.settings.load_profile("suite")
pytest.register_assert_rewrite("trials.engines.conformance", "trials.strategies.conformance")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-golden", action="store_true", help="write golden files that are not there (test_golden.py)"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling | None:
    """Returns our own scheduler for `--dist=loadfile`, which is the default of `pytest -n`."""
    if config.getvalue("dist") != "loadfile":
        return None
    from tests.scheduling import FileScheduling

    return FileScheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Returns a process for each core for `-n auto`, and one more if slow tests run too, as those of Ray wait a lot.

    A process takes nine seconds to import what tests import.
    """
    return num_cores() + ("not slow" not in config.getoption("markexpr"))


SLOW_AS_A_WHOLE = "\npytestmark = pytest.mark.slow\n"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out files whose tests are all slow if no slow test is wanted: importing what they import takes seconds."""
    if config.getoption("markexpr") != "not slow" or not collection_path.name.startswith("test_"):
        return None
    return SLOW_AS_A_WHOLE in collection_path.read_text(encoding="utf-8") or None


SLOW_FIXTURES = {"bucket", "exported", "shipped", "study_run", "taking_pixels", "whole", "with_rungs"}
"""Fixtures that take seconds, so that all tests that use them are slow."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if not SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):  # in a process of `pytest -n`
        from tests.scheduling import sort_longest_first

        sort_longest_first(items)


HAS_BEGUN = pytest.StashKey[bool]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Lets the first test of a process of `pytest -n` decide on its priority."""
    if hasattr(item.config, "workerinput") and not item.config.stash.setdefault(HAS_BEGUN, False):
        from tests.scheduling import leave_cores_to_the_longest

        item.config.stash[HAS_BEGUN] = True
        leave_cores_to_the_longest(item)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keeps Python's collector from walking through all modules and tests again and again, which takes a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


MANY_OBJECTS = 50_000
"""So many take the collector about 40 ms, which it spends several times in every search."""


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Keeps the collector from walking through what tests of a file have imported, again and again, in later files."""
    is_last = nextitem is None or nextitem.path != item.path
    if is_last and len(gc.get_objects(generation=2)) > MANY_OBJECTS:
        gc.collect()  # or garbage would stay for ever
        gc.freeze()


HANDLERS = {
    signal.SIGINT: signal.default_int_handler,  # whatever started the tests: a script's background jobs ignore Ctrl-C
    **{number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)},
}
"""What signals do in the process of the tests. A command leaves handlers that ignore them, as it is to end then."""


@pytest.fixture(autouse=True)
def _no_signal_is_left() -> Iterator[None]:
    """Forgets signals, so that one that a test sent to this process is not counted as the first of two by the next.

    Handlers are restored, also those that a fixture of a module has left.
    """
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)
    yield
    interruption._pending.clear()
    interruption._received.clear()
    signal.alarm(0)
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Returns the folder of reference data beside the checkout; tests that need it are skipped where it is absent."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip("the reference data beside the checkout is not here")
    return path
