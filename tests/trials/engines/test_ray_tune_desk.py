"""What the driver and Ray Tune share: causes of failures in the texts of Ray's errors."""

from __future__ import annotations

import pytest

from trials.engines.ray_tune_desk import failure_in_text
from trials.engines.ray_tune_trial import JobFailedError
from trials.engines.results import Failure


@pytest.mark.parametrize(
    ("text", "cause", "message"),
    [
        ("", "worker died", "its worker process ended in the middle of the job: Ray Tune says no reason"),
        ("1 worker(s) were killed due to the node running low on memory.\nadvice", "out of memory", "nearly full"),
        ("The actor died because its node has died. Node Id: ab", "worker died", "was lost or cannot be reached"),
        ("an error raised in its creation task, x\n  boom", "refused", "workers cannot be started: boom"),
        ("Worker exit detail: SYSTEM_ERROR", "worker died", "in the middle of the job: SYSTEM_ERROR"),
    ],
)
def test_errors_of_ray_have_a_cause(text: str, cause: str, message: str) -> None:
    failure = failure_in_text(text)
    assert failure.cause == cause
    assert message in failure.message


def test_a_failure_is_read_back_from_the_text_of_its_error() -> None:
    failure = Failure(cause="diverged", message="the loss is nan\n{", traceback="a\nb\n")
    error = JobFailedError(failure.model_dump(mode="json"))
    assert str(error).startswith("diverged: the loss is nan\n")
    assert failure_in_text(f"Failure # 1 (occurred at now)\nray.exceptions: {error}\n") == failure
