"""Failures of what is measured before a search, told like a trial's."""

from __future__ import annotations

from typing import Any

import pytest

from sret_nas.errors import UserError
from tests.trials.scripted_engine import End, ScriptedEngine
from trials.engines.jobs import LatencyJob
from trials.engines.results import Failure, FailureCause
from trials.runs.full_disk import StorageError
from trials.search.measuring import run_measurement


def run(cause: FailureCause, times: int = 9) -> dict[str, Any]:
    def end(payload: dict[str, Any], attempt: int) -> End:
        return Failure(cause=cause, message="so\nit is", traceback="...") if attempt <= times else {"found": attempt}

    return run_measurement(ScriptedEngine(end), LatencyJob(), "timing", "lower it")


@pytest.mark.parametrize(
    ("cause", "error", "message"),
    [
        ("diverged", UserError, r"^timing diverged: so\\nit is; lower --learning-rate$"),
        ("refused", UserError, r"^so\\nit is$"),
        ("images changed", UserError, r"^so\\nit is; start again, which prepares them anew$"),
        ("out of memory", UserError, r"^timing does not fit into memory: so\\nit is; lower it$"),
        ("worker died", ChildProcessError, r"^timing failed 3 times, as the worker died: so\\nit is$"),
        ("disk full", StorageError, "a worker cannot write its files"),
        ("exception", RuntimeError, r"^timing failed: so\\nit is"),
    ],
)
def test_every_cause_is_told(cause: FailureCause, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(cause)


def test_a_worker_that_died_is_tried_again() -> None:
    assert run("worker died", times=2) == {"found": 3}
