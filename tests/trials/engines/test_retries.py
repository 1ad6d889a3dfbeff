"""Retries: which jobs are tried again, how often, and whether alone."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest

from tests.trials.scripted_engine import ScriptedEngine
from trials.engines.engine import Outcome
from trials.engines.jobs import LatencyJob
from trials.engines.results import Failure, FailureCause
from trials.engines.retries import AttemptResult, JobQueue, default_time_limit, needs_exclusive, should_retry

DIED, MEMORY = (Failure(cause=cause, message="") for cause in ("worker died", "out of memory"))
FULL = Failure(cause="disk full", message="no room")


def test_only_the_machine_s_failures_are_tried_again() -> None:
    again = {cause for cause in get_args(FailureCause) if should_retry([Failure(cause=cause, message="")])}
    assert again == {"worker died", "out of memory", "suspended"}


def test_a_job_is_tried_three_times_at_most() -> None:
    assert [should_retry([DIED] * tries) for tries in (1, 2, 3, 4)] == [True, True, False, False]
    assert should_retry([DIED, MEMORY])
    assert not should_retry([MEMORY, Failure(cause="exception", message="")])


@pytest.mark.parametrize(
    ("failures", "alone"),
    [([], False), ([DIED], False), ([DIED, DIED], True), ([MEMORY], True), ([MEMORY, DIED], True)],
)
def test_memory_and_the_last_attempt_want_the_machine_for_themselves(failures: list[Failure], alone: bool) -> None:
    assert needs_exclusive(failures) is alone


def test_the_default_limit_is_twenty_times_the_expected_and_at_least_ten_minutes() -> None:
    assert [default_time_limit(seconds) for seconds in (0.0, 30.0, 31.0)] == [600.0, 600.0, 620.0]


def job(number: int) -> LatencyJob:
    """Returns a job whose payload holds its number."""
    return LatencyJob(batch_size=number)


def engine_of(fails: dict[int, list[Failure]], capacity: int) -> ScriptedEngine:
    """Returns an engine on which each job fails with the listed causes, attempt by attempt, and then succeeds."""

    def play(payload: dict[str, Any], attempt: int) -> dict[str, Any] | Failure:
        failures = fails.get(payload["batch_size"], [])
        return failures[attempt - 1] if attempt <= len(failures) else {"value": 1.0}

    return ScriptedEngine(play, capacity)


def run_all(engine: ScriptedEngine, jobs: int, before: dict[int, list[Failure]] | None = None) -> list[AttemptResult]:
    """Runs jobs numbered from 0; `before` are failures in an earlier session."""
    queue = JobQueue(engine)
    for number in range(jobs):
        queue.add(number, job(number), 10.0 * number, (before or {}).get(number, []))
    ended = []
    while not queue.is_empty:
        queue.start()
        ended += queue.wait()
    return ended


def told(ended: list[AttemptResult]) -> list[tuple[int, str | None, bool]]:
    return [(end.job_id, end.failure and end.failure.cause, end.will_run_again) for end in ended]


def test_what_fails_for_the_machine_s_sake_runs_again_before_the_others() -> None:
    engine = engine_of({0: [DIED]}, capacity=1)
    ended = run_all(engine, 3)
    assert told(ended) == [(0, "worker died", True), (0, None, False), (1, None, False), (2, None, False)]
    assert engine.limits == [0.0, 0.0, 10.0, 20.0]


def test_the_third_failure_is_the_last() -> None:
    ended = run_all(engine_of({1: [DIED, DIED, DIED, DIED]}, capacity=1), 2)
    assert told(ended) == [
        (0, None, False),
        (1, "worker died", True),
        (1, "worker died", True),
        (1, "worker died", False),
    ]


def test_attempts_of_an_earlier_session_count() -> None:
    ended = run_all(engine_of({0: [DIED], 1: [DIED]}, capacity=1), 2, before={0: [DIED, DIED], 1: [DIED]})
    assert told(ended) == [(0, "worker died", False), (1, "worker died", True), (1, None, False)]


def test_after_a_lack_of_memory_a_job_runs_alone() -> None:
    """Job 0 runs out of memory beside 1; it waits for 1 to end, and nothing starts before it has ended."""
    engine = engine_of({0: [MEMORY]}, capacity=3)
    run_all(engine, 5)
    assert engine.started == [(0, ()), (1, (0,)), (2, (0, 1)), (0, ()), (3, ()), (4, (3,))]


def test_a_worker_s_first_death_does_not_clear_the_machine() -> None:
    engine = engine_of({0: [DIED]}, capacity=2)
    run_all(engine, 3)
    assert engine.started == [(0, ()), (1, (0,)), (0, (1,)), (2, (0,))]


def test_what_may_not_start_stays_where_it_is() -> None:
    engine = engine_of({}, capacity=2)
    queue = JobQueue(engine)
    queue.add(0, job(0), None)
    queue.start(lambda part: False)
    assert (engine.started, queue.is_empty, queue.wait()) == ([], False, [])
    queue.start()
    assert [end.job_id for end in queue.wait()] == [0]
    assert queue.is_empty


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_result_that_is_not_finite_is_a_failure(number: float) -> None:
    engine = ScriptedEngine(lambda payload, attempt: {"size": 1, "found": [{"error": 0.5}, {"error": [1, number]}]})
    (end,) = run_all(engine, 1)
    assert (end.result, end.will_run_again) == (None, False)
    assert end.failure == Failure(cause="diverged", message=f"the result has error {number}")


def test_what_a_full_disk_ended_is_told_last() -> None:
    """So that other results are recorded before the search ends."""

    class AllAtOnce(ScriptedEngine):
        def wait(self) -> list[Outcome]:
            return [outcome for _ in range(2) for outcome in super(AllAtOnce, self).wait()]

    engine = AllAtOnce(lambda payload, attempt: FULL if payload["batch_size"] == 0 else {}, capacity=2)
    assert told(run_all(engine, 2)) == [(1, None, False), (0, "disk full", False)]
