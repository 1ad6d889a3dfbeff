"""The loop of a search with trials that end as a test says: attempts, budgets of time, full disks, resuming."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.quantities import parse_duration
from sret_nas.space.search_space import DepthSchedule
from tests.counted_spaces import shipped
from tests.trials.scripted_engine import Clock, End, ScriptedEngine
from trials.engines.jobs import InheritedTrialJob, ScratchTrialJob, SupernetSource, TrialJob, parse_job
from trials.engines.results import Failure, TargetCost, TrialResult
from trials.program_name import resume_command
from trials.runs.directory import RECORDS_FILE
from trials.runs.full_disk import StorageError, full_disk_explained, recorded_in
from trials.runs.history import read_history
from trials.runs.options import SearchOptions
from trials.runs.optuna_journal import OptunaJournal
from trials.runs.records import HEADER_KEYS, Records
from trials.search.session import Run
from trials.search.trial_loop import run_trials
from trials.strategies.candidates import CandidatePool
from trials.strategies.create import create_strategy
from trials.strategies.early_stopping import SuccessiveHalving
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate, Strategy
from trials.strategies.uniform import RandomStrategy
from trials.training.recipe import ProxyConfig, TrainingConfig

Play = Callable[[int, int], Failure | float | None]
"""Why a trial's attempt (from 1) fails, if it does, or a cross-entropy to find instead."""

DIED, MEMORY, FULL = (
    Failure(cause=cause, message=f"because {cause}") for cause in ("worker died", "out of memory", "disk full")
)
OPTIONS: dict[str, Any] = {
    "space": "smoke", "no_supernet": True, "trials": 8, "seed": 1, "strategy": "nsga2", "population": 2,
    "lookahead": 4, "workers": 2, "device": "cpu",
}  # fmt: skip
HEADER: dict[str, Any] = {
    **{key: {} for key in HEADER_KEYS} | {"command": []},
    "data": {"digest": "0"},
    "expected": {"trial_seconds": 10.0, "final_seconds": 100.0},
}


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


def result_of(job: TrialJob) -> dict[str, Any]:
    """Returns what the network's name says: an error as good as random."""
    cost = cost_of(job.arch)
    target = TargetCost(flops=cost.flops, params=cost.params, image_size=224, classes=1000)
    error = int(job.arch.arch_id[:4], 16) / (2 * 16**4)
    error += (1 - job.share) * int(job.arch.arch_id[4:8], 16) / (2 * 16**4)
    found = TrialResult(
        share=job.share, error=error, cross_entropy=error, error_by_depth=[error], train_loss=1.0, train_steps=1,
        train_images=1, train_seconds=1.0, seconds=2.0, target=target, proxy=target, proxy_arch=job.arch, device="cpu",
        peak_memory_mb=1.0,
    )  # fmt: skip
    return found.model_dump(mode="json")


@cache
def domain_of(space: str, budget: Budget) -> SReTDomain:
    """Returns the same domain for all sessions, so that its networks are counted once."""
    return SReTDomain(shipped(space), budget)


class Session:
    """One session of a search in a run directory; `fails` says what becomes of its attempts."""

    def __init__(
        self, run_dir: Path, fails: Play | None = None, clock: Clock | None = None, seconds: float = 0.0,
        pick: Callable[[int], int] = lambda running: 0, **changes: Any,
    ) -> None:  # fmt: skip
        self.run_dir = run_dir
        self.options = SearchOptions(**{**OPTIONS, **changes})
        capacity = self.options.workers
        self.engine = ScriptedEngine(self._play, capacity=capacity, clock=clock, seconds=seconds, pick=pick)
        self.jobs: list[TrialJob] = []
        self.text = io.StringIO()
        self._fails = fails or (lambda number, attempt: None)
        self._numbers: dict[str, int] = {}

    def _play(self, payload: dict[str, Any], attempt: int) -> End:
        job = parse_job(payload)
        assert isinstance(job, TrialJob)
        self.jobs.append(job)
        key = key_of(job.arch, job.depth_schedule)
        if key not in self._numbers:
            trials = read_history(self.run_dir).trials.values()
            self._numbers = {trial.candidate.key: trial.number for trial in trials}
        number = self._numbers[key]
        end, result = self._fails(number, attempt), result_of(job)
        if isinstance(end, float):
            return {**result, "cross_entropy": end}
        return end or result

    def make_strategy(self, domain: SReTDomain) -> Strategy[Candidate]:
        options = self.options
        return create_strategy(options.strategy, domain, options.objectives, seed=1, population=options.population)

    def run(self) -> Run:
        is_new = not (self.run_dir / RECORDS_FILE).exists()
        domain = domain_of(self.options.space, self.options.budget)
        proxy = ProxyConfig(image_size=32, width_scale=1.0, training=TrainingConfig(images=64))
        with Records(self.run_dir, must_exist=not is_new) as records:
            history = records.start(HEADER) if is_new else records.reopen()
            if not is_new:
                records.resumed({}, {})
            if not self.options.no_supernet:
                history.supernet = SupernetSource(path="supernet.safetensors", digest="0")
            run = Run(
                self.run_dir, self.options, domain, Path("data"), proxy, records, history,
                Console(file=self.text, width=200),
            )  # fmt: skip
            strategy = self.make_strategy(domain)
            with full_disk_explained(resume_command("search", self.run_dir), recorded_in(self.run_dir)):
                run_trials(run, strategy, self.engine, OptunaJournal(self.run_dir, domain, self.options.objectives))
        return run


def key_of(arch: ArchConfig, schedule: DepthSchedule) -> str:
    return Candidate(arch, schedule).key


def dying(number: int, times: int) -> Play:
    """Lets the first attempts at a trial, in this session, lose their worker."""
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


RUNGS: dict[str, Any] = {"rungs": 3, "eta": 2, "trials": 30, "space": "paper_ablations"}


def story(run_dir: Path) -> list[tuple[Any, ...]]:
    """Returns of every trial what it was, what it had at its rungs, and how it ended."""
    return [
        (number, trial.candidate.key, [found.error for found in trial.partial], trial.is_stopped,
         trial.failure and trial.failure.cause, trial.result and trial.result.error)
        for number, trial in sorted(read_history(run_dir).trials.items())
    ]  # fmt: skip


@pytest.fixture(scope="module")
def with_rungs(tmp_path_factory: pytest.TempPathFactory) -> Session:
    session = Session(tmp_path_factory.mktemp("rungs") / "run", strategy="additive", lookahead=4, **RUNGS)
    session.run()
    return session


@pytest.mark.slow
def test_most_trials_are_stopped_and_the_best_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decisions: list[tuple[int, bool]] = []
    promote = SuccessiveHalving.promote

    def recorded(self: SuccessiveHalving, rung: int, values: tuple[float, ...]) -> bool:
        goes_on = promote(self, rung, values)
        decisions.append((rung, goes_on))
        return goes_on

    monkeypatch.setattr(SuccessiveHalving, "promote", recorded)
    with_rungs = Session(tmp_path / "run", strategy="additive", lookahead=4, **RUNGS)
    with_rungs.run()
    trials = [trial for _, trial in sorted(read_history(with_rungs.run_dir).trials.items())]
    assert len(trials) == 30
    assert all(trial.has_ended for trial in trials)
    assert {len(trial.partial) for trial in trials if trial.is_stopped} == {1, 2}
    assert all(len(trial.partial) == 2 for trial in trials if trial.result is not None)
    went_on = [sum(len(trial.partial) > rung for trial in trials) for rung in (0, 1)]
    ended = sum(trial.result is not None for trial in trials)
    assert went_on[0] == 30
    # Exactly those whom the rule promotes; how many of 30 that are depends on the order in which good ones come.
    assert sum(rung == 0 for rung, _ in decisions) == 30
    assert decisions.count((0, True)) == went_on[1] == sum(rung == 1 for rung, _ in decisions) < 30
    assert decisions.count((1, True)) == ended < went_on[1]
    assert ended >= 8
    for rung in (0, 1):
        came = [trial for trial in trials if len(trial.partial) > rung]
        best = min(came, key=lambda trial: trial.partial[rung].error)
        assert len(best.partial) == 2 if rung == 0 else best.result is not None
    jobs = [job for job in with_rungs.jobs if isinstance(job, ScratchTrialJob)]
    assert len(jobs) == len(with_rungs.jobs)
    assert {(job.share, job.checkpoint_from is None, job.checkpoint_to is None) for job in jobs} == {
        (0.25, True, False), (0.5, False, False), (1.0, False, True)
    }  # fmt: skip
    assert [job.share for job in jobs if job.weights_path is not None] == [1.0] * ended


@pytest.mark.parametrize(("workers", "pick"), [(1, 0), (3, -1), (4, 2)])
def test_neither_workers_nor_who_is_quicker_changes_who_goes_on(
    tmp_path: Path, with_rungs: Session, workers: int, pick: int
) -> None:
    session = Session(tmp_path, strategy="additive", workers=workers, lookahead=4, pick=lambda n: pick % n, **RUNGS)
    session.run()
    assert story(tmp_path) == story(with_rungs.run_dir)


@pytest.mark.slow
def test_who_goes_on_does_so_before_new_trials(tmp_path: Path) -> None:
    """One worker, one trial at a time: the first three go on as far as they may, at once."""
    session = Session(tmp_path, strategy="random", workers=1, lookahead=1, **RUNGS)
    session.run()
    assert [number for number, _ in session.engine.started][:6] == [0, 0, 0, 1, 1, 1]
    assert [job.share for job in session.jobs[:6]] == [0.25, 0.5, 1.0, 0.25, 0.5, 1.0]


@pytest.mark.parametrize("at", [0, 16, 17, 40, 71])
def test_a_search_with_rungs_that_was_killed_anywhere_repeats_nothing(
    tmp_path: Path, with_rungs: Session, at: int
) -> None:
    lines = (with_rungs.run_dir / RECORDS_FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / RECORDS_FILE).write_bytes(b"".join(lines[: 1 + at]) + lines[1 + at][:20])
    session = Session(tmp_path, strategy="additive", lookahead=4, **RUNGS)
    session.run()
    assert story(tmp_path) == story(with_rungs.run_dir)
    counts = Counter(
        (event["number"], event["event"], event.get("result", {}).get("share"))
        for event in events(tmp_path, "asked", "rung", "stopped", "finished")
    )
    assert set(counts.values()) == {1}


@pytest.mark.slow
def test_a_failure_on_the_way_to_a_later_rung_is_the_trial_s_end(tmp_path: Path) -> None:
    failed = Failure(cause="diverged", message="later")
    seen: Counter[int] = Counter()

    def fails(number: int, attempt: int) -> Failure | None:
        seen[number] += 1
        return failed if number == 1 and seen[number] == 2 else None

    session = Session(tmp_path, fails, strategy="random", **RUNGS)
    trial = session.run().history.trials[1]
    assert (len(trial.partial), trial.failure, trial.is_stopped) == (1, failed, False)
    Session(tmp_path, strategy="random", **RUNGS).run()
    assert story(tmp_path)[1][4] == "diverged"


@pytest.mark.slow
def test_a_checkpoint_goes_when_its_trial_has_ended(tmp_path: Path) -> None:
    session = Session(tmp_path, strategy="random", **RUNGS)
    folder = tmp_path / "checkpoints"
    left: list[set[str]] = []

    def fails(number: int, attempt: int) -> None:
        folder.mkdir(exist_ok=True)
        left.append({path.name for path in folder.iterdir()})
        (folder / f"trial-{number:04d}.pt").touch()

    session._fails = fails
    session.run()
    assert list(folder.iterdir()) == []
    assert max(map(len, left)) <= 4  # of the trials that are on their way


def test_with_inherited_weights_a_rung_is_a_share_of_the_images(tmp_path: Path) -> None:
    session = Session(tmp_path, strategy="random", no_supernet=False, **{**RUNGS, "trials": 6})
    run = session.run()
    jobs = [job for job in session.jobs if isinstance(job, InheritedTrialJob)]
    assert len(jobs) == len(session.jobs)
    assert {job.share for job in jobs} == {0.25, 0.5, 1.0}
    on = [job for job in jobs if job.share == 1.0]
    partial = {trial.candidate.arch.arch_id: trial.partial[1] for trial in run.trials if len(trial.partial) == 2}
    assert on
    for job in on:
        assert job.known is not None
        before = partial[job.arch.arch_id]
        assert (job.known.error, job.known.images) == (before.error, before.val_images)


@pytest.mark.slow
def test_the_strategy_learns_from_stopped_trials(tmp_path: Path) -> None:
    """Partial values are told at once; of a stopped trial nothing final follows."""
    told: list[tuple[Any, ...]] = []
    session = Session(tmp_path, strategy="random", **RUNGS)

    class Listening(RandomStrategy[Candidate]):
        def tell_partial(self, candidate: Candidate, rung: int, values: tuple[float, ...]) -> None:
            told.append((candidate.key, rung, values[0]))

        def tell(self, candidate: Candidate, values: tuple[float, ...] | None) -> None:
            told.append((candidate.key, "end", values and values[0]))

    session.make_strategy = lambda domain: Listening(CandidatePool(domain, 1))
    run = session.run()
    assert {trial.is_stopped for trial in run.trials} == {True, False}
    for trial in run.trials:
        mine = [(rung, value) for key, rung, value in told if key == trial.candidate.key]
        assert mine == [
            *((rung, found.error) for rung, found in enumerate(trial.partial)),
            ("end", trial.result.error if trial.result else None),
        ]
