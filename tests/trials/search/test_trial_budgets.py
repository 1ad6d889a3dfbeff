"""Budgets of time and GPU-hours: no trial starts that would end after them, in any session."""

from __future__ import annotations

from pathlib import Path

import pytest

from sret_nas.quantities import parse_duration
from tests.trials.scripted_engine import Clock
from tests.trials.search.scripted_session import Session, dying, events, found, lines_with


def test_no_trial_starts_that_would_end_after_the_time_budget(
    tmp_path: Path, clock: Clock, undisturbed: list[tuple[str, float | None]]
) -> None:
    """Two at a time, one ends every 10 s: planned to take 10 s, they take 10 s, then 20 s each; 55 s are allowed."""
    run_dir = tmp_path / "run"
    session = Session(run_dir, clock=clock, seconds=10.0, time_budget=55.0, trials=20)
    started = clock.now
    run = session.run()
    # at 0: 0 and 1; at 10, mean 10: 2; at 20, mean 15: 3; at 30, mean 16.7: 4; at 40, mean 17.5: none
    assert [number for number, _ in session.engine.started] == [0, 1, 2, 3, 4]
    assert clock.now - started == 50
    assert run.records.usage.wall_seconds() == 50
    assert [event["number"] for event in events(run_dir, "finished")] == [0, 1, 2, 3, 4]
    # four ahead of the four that were told when the fifth was turned away, and none after that
    assert [event["number"] for event in events(run_dir, "asked")] == list(range(8))
    assert lines_with(session.text, "trial 4 ")[0].endswith("[5/20, 50 s of 55 s spent, 5 s left]")
    assert session.text.getvalue().splitlines()[-1] == (
        "No further trial starts: 50 s of 55 s spent, 5 s left. "
        f"For twice as much: sret-nas search --resume {run_dir} --time-budget 110s"
    )
    clock.now += 1e6
    idle = Session(run_dir, clock=clock, seconds=10.0, time_budget=55.0)
    idle.run()
    assert idle.engine.started == []
    more = Session(run_dir, clock=clock, seconds=10.0, time_budget=1000.0)
    assert more.run().records.usage.wall_seconds() == 50 + 30
    assert [number for number, _ in more.engine.started] == [5, 6, 7]
    assert found(run_dir) == undisturbed


@pytest.mark.parametrize(("budget", "twice"), [(500_400.0, "1000800s"), (1.4, "3s")])
def test_twice_a_time_budget_can_be_typed(tmp_path: Path, clock: Clock, budget: float, twice: str) -> None:
    session = Session(tmp_path, clock=clock, seconds=2 * budget, time_budget=budget)
    session.run()
    assert session.text.getvalue().rstrip().endswith(f"--time-budget {twice}")
    assert parse_duration(twice) >= budget


def test_gpu_hours_bound_the_trials_of_all_sessions(tmp_path: Path, clock: Clock) -> None:
    """90 GPU-seconds. Of two at a time the first takes 10 s, the others 20 s: so 10, 30, 50, 70 are spent."""
    session = Session(tmp_path, clock=clock, seconds=10.0, gpu_hours=90 / 3600, device="cuda")
    run = session.run()
    # spent and promised: 10 each as planned for 0 and 1; at 10 s 10 + 2 x 10; then 30 + 2 x 15, 50 + 2 x 17, and
    # 70 + 2 x 18 is too much
    assert [number for number, _ in session.engine.started] == [0, 1, 2, 3, 4]
    assert run.compute_budget().gpu_seconds == 10 + 20 * 4
    assert "For twice as much: sret-nas search --resume" in session.text.getvalue()
    assert session.text.getvalue().rstrip().endswith("--gpu-hours 0.05")
    assert "0.025 of 0.025 GPU-hours spent, 0 left" in session.text.getvalue()
    idle = Session(tmp_path, clock=clock, seconds=10.0, gpu_hours=91 / 3600, device="cuda")
    idle.run()
    assert idle.engine.started == []


def test_a_trial_that_dies_after_the_budget_is_left_to_a_resumed_search(tmp_path: Path, clock: Clock) -> None:
    session = Session(tmp_path, dying(0, times=1), clock=clock, seconds=10.0, time_budget=15.0)
    session.run()
    assert session.engine.started == [(0, ()), (1, (0,))]
    assert [event["number"] for event in events(tmp_path, "retried")] == [0]
    more = Session(tmp_path, clock=clock, seconds=10.0)
    run = more.run()
    assert more.engine.started[0] == (0, ())
    assert [trial.result is not None for trial in run.trials] == [True] * more.options.trials
