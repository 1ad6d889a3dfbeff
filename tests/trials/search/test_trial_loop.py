"""The loop of a search with trials that end as a test says: attempts, time limits, full disks, resuming."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.trials.search.scripted_session import DIED, FULL, MEMORY, Session, dying, events, found, lines_with
from trials.engines.results import Failure
from trials.runs.directory import RECORDS_FILE
from trials.runs.full_disk import StorageError


def test_a_trial_whose_worker_dies_twice_ends_as_if_nothing_had_been(
    tmp_path: Path, undisturbed: list[tuple[str, float | None]]
) -> None:
    session = Session(tmp_path / "run", dying(3, times=2))
    run = session.run()
    assert found(run.run_dir) == undisturbed
    assert [(event["number"], event["attempt"]) for event in events(run.run_dir, "retried")] == [(3, 1), (3, 2)]
    assert all(Failure.model_validate(event["failure"]) == DIED for event in events(run.run_dir, "retried"))
    assert run.history.trials[3].retried == [DIED, DIED]
    assert events(run.run_dir, "failed") == []
    assert lines_with(session.text, "attempt") == [
        f"trial 3 {run.history.trials[3].candidate.arch.arch_id}, attempt {n}: worker died (because worker died); "
        "it runs again"
        for n in (1, 2)
    ]


def test_the_third_death_is_the_trial_s_end_and_the_search_goes_on(tmp_path: Path) -> None:
    run = Session(tmp_path, dying(3, times=3)).run()
    assert len(events(tmp_path, "retried")) == 2
    assert [event["number"] for event in events(tmp_path, "failed")] == [3]
    assert run.history.trials[3].failure == DIED
    assert sum(trial.result is not None for trial in run.trials) == 7


@pytest.mark.parametrize("cause", ["diverged", "refused", "exception", "timed out"])
def test_a_trial_that_fails_by_itself_is_not_run_again(tmp_path: Path, cause: Any) -> None:
    failure = Failure(cause=cause, message="its own")
    run = Session(tmp_path, lambda number, attempt: failure if number == 2 else None).run()
    assert events(tmp_path, "retried") == []
    assert run.history.trials[2].failure == failure
    assert sum(trial.result is not None for trial in run.trials) == 7


def test_a_number_that_is_not_finite_is_a_failure_on_record(tmp_path: Path) -> None:
    run = Session(tmp_path, lambda number, attempt: math.nan if number == 2 else None).run()
    assert run.history.trials[2].failure == Failure(cause="diverged", message="the result has cross_entropy nan")
    assert sum(trial.result is not None for trial in run.trials) == 7


@pytest.mark.slow
def test_attempts_before_a_kill_count(tmp_path: Path, undisturbed: list[tuple[str, float | None]]) -> None:
    """The records end after the first death of trial 3; resumed, it may die once more, and then not a third time."""
    Session(tmp_path / "run", dying(3, times=3)).run()
    path = tmp_path / "run" / RECORDS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    cut = next(at for at, line in enumerate(lines) if b'"retried"' in line)
    for deaths, failed in ((2, True), (1, False)):
        path.write_bytes(b"".join(lines[: cut + 1]))
        session = Session(tmp_path / "run", dying(3, deaths))
        run = session.run()
        assert (run.history.trials[3].failure is not None) is failed
        assert len(run.history.trials[3].retried) == 2
        assert [event["attempt"] for event in events(tmp_path / "run", "retried")] == [1, 2]
        finished = Counter(event["number"] for event in events(tmp_path / "run", "finished"))
        assert finished == Counter(range(8)) - Counter([3] * failed)
    assert found(tmp_path / "run") == undisturbed


def test_what_is_recorded_as_failed_stays_so(tmp_path: Path) -> None:
    """Also for the machine's sake, as in records from before trials were tried again: the strategy was told."""
    Session(tmp_path, dying(3, times=3)).run()
    path = tmp_path / RECORDS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b'"retried"' not in line))
    session = Session(tmp_path)
    assert session.run().history.trials[3].failure == DIED
    assert session.engine.started == []


def test_after_a_lack_of_memory_a_trial_runs_alone(tmp_path: Path) -> None:
    session = Session(tmp_path, lambda number, attempt: MEMORY if number == 0 and attempt == 1 else None)
    session.run()
    assert session.engine.started[:4] == [(0, ()), (1, (0,)), (0, ()), (2, ())]


@pytest.mark.parametrize(("timeout", "limit", "final_limit"), [(None, 600.0, 2000.0), (75.0, 75.0, 750.0)])
def test_the_time_limit_is_the_one_asked_for_or_twenty_times_the_plan_s(
    tmp_path: Path, timeout: float | None, limit: float, final_limit: float
) -> None:
    """That of a final is in proportion to its plan, which here is ten times as long as a trial's."""
    session = Session(tmp_path, trial_timeout=timeout, trials=2)
    run = session.run()
    assert session.engine.limits == [limit, limit]
    assert run.final_time_limit == final_limit


def test_a_final_that_is_planned_shorter_than_a_trial_has_as_much_time(tmp_path: Path) -> None:
    run = Session(tmp_path, trial_timeout=75.0, trials=2).run()
    run.history.header["expected"] = {"trial_seconds": 100.0, "final_seconds": 10.0}
    assert run.final_time_limit == 75.0


def test_a_full_disk_ends_the_search_and_costs_only_the_trial_that_met_it(
    tmp_path: Path, undisturbed: list[tuple[str, float | None]]
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(StorageError) as caught:
        Session(run_dir, lambda number, attempt: FULL if number == 4 else None).run()
    assert str(caught.value) == (
        "a worker cannot write its files: because disk full; all that was recorded until then is safe in "
        f"{run_dir}: make room, then carry on with: sret-nas search --resume {run_dir}"
    )
    assert [event["number"] for event in events(run_dir, "finished", "failed", "retried")] == [0, 1, 2, 3]
    Session(run_dir).run()
    assert found(run_dir) == undisturbed
