"""The loop of a search with trials that end as a test says: attempts, budgets of time, full disks, resuming."""

from __future__ import annotations

import io
import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent))
from scripted_engine import Clock, End, ScriptedEngine

from sret_nas.arch import ArchConfig
from sret_nas.cost import cost_of
from sret_nas.space import DepthSchedule, SearchSpace
from trials.jobs import Failure, TargetCost, TrialJob, TrialResult, parse_job
from trials.journal import OptunaJournal
from trials.options import SearchOptions
from trials.recipe import ProxyConfig, TrainingConfig
from trials.records import HEADER_KEYS, RECORDS_FILE, Records, read_history
from trials.run import Run
from trials.storage import StorageError, full_disk_explained
from trials.strategies import Candidate
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.trial_loop import run_trials

Play = Callable[[int, int], Failure | float | None]
"""Why a trial's attempt (from 1) fails, if it does, or a cross-entropy to find instead."""

DIED, MEMORY, FULL = (
    Failure(cause=cause, message=f"because {cause}") for cause in ("worker died", "out of memory", "disk full")
)
SPACE = SearchSpace.load("smoke")
OPTIONS: dict[str, Any] = {
    "space": "smoke", "from_scratch": True, "trials": 8, "seed": 1, "strategy": "nsga2", "population": 2,
    "lookahead": 4, "workers": 2, "device": "cpu",
}  # fmt: skip
HEADER: dict[str, Any] = {
    **{key: {} for key in HEADER_KEYS},
    "data": {"digest": "0"},
    "expected": {"trial_seconds": 10.0, "final_seconds": 100.0},
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("trials.attempts", "trials.trial_loop", "trials.records", "trials.report.progress"):
        monkeypatch.setattr(f"{module}.time", clock)
    return clock


def result_of(job: TrialJob) -> dict[str, Any]:
    """What the network's name says: an error as good as random."""
    cost = cost_of(job.arch)
    target = TargetCost(flops=cost.flops, params=cost.params, image_size=224, classes=1000)
    error = int(job.arch.arch_id[:4], 16) / 16**4
    found = TrialResult(
        error=error, cross_entropy=error, error_by_depth=[error], train_loss=1.0, train_steps=1, train_images=1,
        train_seconds=1.0, seconds=2.0, target=target, proxy=target, proxy_arch=job.arch, device="cpu",
        peak_memory_mb=1.0,
    )  # fmt: skip
    return found.model_dump(mode="json")


class Session:
    """One session of a search in a run directory; `fails` says what becomes of its attempts."""

    def __init__(
        self, run_dir: Path, fails: Play | None = None, clock: Clock | None = None, seconds: float = 0.0,
        **changes: Any,
    ) -> None:  # fmt: skip
        self.run_dir = run_dir
        self.options = SearchOptions(**{**OPTIONS, **changes})
        self.engine = ScriptedEngine(self._play, capacity=2, clock=clock, seconds=seconds)
        self.text = io.StringIO()
        self._fails = fails or (lambda number, attempt: None)
        self._numbers: dict[str, int] = {}

    def _play(self, payload: dict[str, Any], attempt: int) -> End:
        job = parse_job(payload)
        assert isinstance(job, TrialJob)
        trials = read_history(self.run_dir).trials.values()
        (number,) = (t.number for t in trials if t.candidate.key == key_of(job.arch, job.depth_schedule))
        end, result = self._fails(number, attempt), result_of(job)
        if isinstance(end, float):
            return {**result, "cross_entropy": end}
        return end or result

    def run(self) -> Run:
        is_new = not (self.run_dir / RECORDS_FILE).exists()
        domain = SReTDomain(SPACE, self.options.budget)
        proxy = ProxyConfig(image_size=32, width_scale=1.0, training=TrainingConfig(images=64))
        with Records(self.run_dir, must_exist=not is_new) as records:
            history = records.start(HEADER) if is_new else records.reopen()
            if not is_new:
                records.resumed({}, {})
            run = Run(
                self.run_dir, self.options, domain, Path("data"), proxy, records, history,
                Console(file=self.text, width=200),
            )  # fmt: skip
            strategy = create_strategy(
                self.options.strategy, domain, self.options.objectives, seed=1, population=self.options.population
            )
            with full_disk_explained(self.run_dir, has_begun=True):
                run_trials(run, strategy, self.engine, OptunaJournal(self.run_dir, domain, self.options.objectives))
        return run


def key_of(arch: ArchConfig, schedule: DepthSchedule) -> str:
    return Candidate(arch, schedule).key


def dying(number: int, times: int) -> Play:
    """The first attempts at a trial, in this session, lose their worker."""
    return lambda asked, attempt: DIED if asked == number and attempt <= times else None


def events(run_dir: Path, *kinds: str) -> list[dict[str, Any]]:
    lines = (run_dir / RECORDS_FILE).read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] in kinds]


def found(run_dir: Path) -> list[tuple[str, float | None]]:
    trials = read_history(run_dir).trials
    return [(trials[n].candidate.key, t.result and t.result.error) for n, t in sorted(trials.items())]


@pytest.fixture
def undisturbed(tmp_path: Path) -> list[tuple[str, float | None]]:
    Session(tmp_path / "undisturbed").run()
    return found(tmp_path / "undisturbed")


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


def lines_with(text: io.StringIO, word: str) -> list[str]:
    return [line for line in text.getvalue().splitlines() if word in line]


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


def test_the_time_limit_is_the_one_asked_for_or_twenty_times_the_plan_s(tmp_path: Path) -> None:
    for timeout, limit in ((None, 600.0), (75.0, 75.0)):
        session = Session(tmp_path / str(timeout), trial_timeout=timeout, trials=2)
        run = session.run()
        assert session.engine.limits == [limit, limit]
        assert run.final_time_limit == 2000.0


def test_a_full_disk_ends_the_search_and_costs_only_the_trial_that_met_it(
    tmp_path: Path, undisturbed: list[tuple[str, float | None]]
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(StorageError) as caught:
        Session(run_dir, lambda number, attempt: FULL if number == 4 else None).run()
    assert str(caught.value) == (
        "a worker cannot write its files: because disk full; all that was recorded until then is safe in "
        f"{run_dir}: make room, then carry on with: python cli.py search --resume {run_dir}"
    )
    assert [event["number"] for event in events(run_dir, "finished", "failed", "retried")] == [0, 1, 2, 3]
    Session(run_dir).run()
    assert found(run_dir) == undisturbed


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
    assert run.records.spending.wall_seconds() == 50
    assert [event["number"] for event in events(run_dir, "finished")] == [0, 1, 2, 3, 4]
    # four ahead of the four that were told when the fifth was turned away, and none after that
    assert [event["number"] for event in events(run_dir, "asked")] == list(range(8))
    assert lines_with(session.text, "trial 4 ")[0].endswith("[5/20, 50 s of 55 s spent, 5 s left]")
    assert session.text.getvalue().splitlines()[-1] == (
        "No further trial starts: 50 s of 55 s spent, 5 s left. "
        f"For twice as much: python cli.py search --resume {run_dir} --time-budget 110s"
    )
    clock.now += 1e6
    idle = Session(run_dir, clock=clock, seconds=10.0, time_budget=55.0)
    idle.run()
    assert idle.engine.started == []
    more = Session(run_dir, clock=clock, seconds=10.0, time_budget=1000.0)
    assert more.run().records.spending.wall_seconds() == 50 + 30
    assert [number for number, _ in more.engine.started] == [5, 6, 7]
    assert found(run_dir) == undisturbed


def test_gpu_hours_bound_the_trials_of_all_sessions(tmp_path: Path, clock: Clock) -> None:
    """90 GPU-seconds. Of two at a time the first takes 10 s, the others 20 s: so 10, 30, 50, 70 are spent."""
    session = Session(tmp_path, clock=clock, seconds=10.0, gpu_hours=90 / 3600, device="cuda")
    run = session.run()
    # spent and promised: 10 each as planned for 0 and 1; at 10 s 10 + 2 x 10; then 30 + 2 x 15, 50 + 2 x 17, and
    # 70 + 2 x 18 is too much
    assert [number for number, _ in session.engine.started] == [0, 1, 2, 3, 4]
    assert run.allowance().gpu_seconds == 10 + 20 * 4
    assert "For twice as much: python cli.py search --resume" in session.text.getvalue()
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
    assert all(trial.result is not None for trial in run.trials)
