"""A resumed search says how far it is, also where fewer trials are asked for than have ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from trials.search.search import describe_progress


@pytest.mark.parametrize(
    ("ended", "trials", "line"),
    [
        (0, 8, "Resuming run: 0 of 8 trials have ended."),
        (1, 1, "Resuming run: 1 of 1 trial has ended."),
        (31, 31, "Resuming run: 31 of 31 trials have ended."),
        (31, 3, "Resuming run: 31 trials have ended already, more than --trials 3: none is added"),
    ],
)
def test_more_than_was_asked_for_is_no_share_of_it(ended: int, trials: int, line: str) -> None:
    assert describe_progress(Path("run"), ended, trials) == line
