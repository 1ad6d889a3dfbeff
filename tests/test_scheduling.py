"""`pytest -n` runs a file's tests in one process, so that what they share is made once."""

from __future__ import annotations

import pytest

from tests import REPOSITORY
from tests.scheduling import LONGEST, TOGETHER, sort_longest_first
from trials.machine import num_cores

RUN_HERE: list[str] = []


@pytest.mark.parametrize("number", range(4))
def test_the_tests_before_this_one_ran_in_this_process(number: int, request: pytest.FixtureRequest) -> None:
    """So that a pytest-xdist that spreads a file's tests over processes, as one has begun to silently, is noticed."""
    of_this_file = [item.nodeid for item in request.session.items if item.path == request.path]
    assert of_this_file[: of_this_file.index(request.node.nodeid)] == RUN_HERE
    RUN_HERE.append(request.node.nodeid)


@pytest.mark.parametrize(("marks", "more"), [("not slow", 0), ("not slow and not gpu", 0), ("slow", 1), ("", 1)])
def test_there_is_a_process_more_than_cores_where_some_wait(
    marks: str, more: int, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytestconfig.option, "markexpr", marks)
    assert pytestconfig.hook.pytest_xdist_auto_num_workers(config=pytestconfig) == num_cores() + more


@pytest.mark.parametrize(
    ("marks", "file", "is_left_out"),
    [
        ("not slow", "trials/search/test_search.py", True),
        ("", "trials/search/test_search.py", None),
        ("not slow", "trials/search/test_trial_loop.py", None),
        ("not slow", "test_scheduling.py", None),
        ("not slow", "full_disk.py", None),
    ],
)
def test_daily_work_reads_no_file_that_is_slow_as_a_whole(
    marks: str, file: str, is_left_out: bool | None, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytestconfig.option, "markexpr", marks)
    path = REPOSITORY / "tests" / file
    assert pytestconfig.hook.pytest_ignore_collect(collection_path=path, config=pytestconfig) is is_left_out


def test_all_files_with_a_place_are_there() -> None:
    assert [file for file in (*LONGEST, *TOGETHER) if not (REPOSITORY / file).is_file()] == []


def test_the_longest_files_come_first() -> None:
    class Item:
        def __init__(self, nodeid: str) -> None:
            self.nodeid = nodeid

    files = ["tests/a.py", LONGEST[1], "tests/b.py", LONGEST[0]]
    items = [Item(f"{file}::test_{number}") for file in files for number in (2, 1)]
    sort_longest_first(items)  # type: ignore[arg-type]
    assert [item.nodeid for item in items] == [
        f"{file}::test_{number}" for file in (LONGEST[0], LONGEST[1], "tests/a.py", "tests/b.py") for number in (2, 1)
    ]
