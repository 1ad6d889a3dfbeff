"""Trials that are trained rung by rung: who goes on, who is stopped, and what a kill changes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.trials.search.scripted_session import Session, events
from trials.engines.jobs import InheritedTrialJob, ScratchTrialJob
from trials.engines.results import Failure
from trials.runs.directory import RECORDS_FILE
from trials.runs.history import read_history
from trials.strategies.candidates import CandidatePool
from trials.strategies.early_stopping import SuccessiveHalving
from trials.strategies.strategy import Candidate
from trials.strategies.uniform import RandomStrategy

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
    assert {(job.fraction, job.checkpoint_from is None, job.checkpoint_to is None) for job in jobs} == {
        (0.25, True, False), (0.5, False, False), (1.0, False, True)
    }  # fmt: skip
    assert [job.fraction for job in jobs if job.weights_path is not None] == [1.0] * ended


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
    assert [job.fraction for job in session.jobs[:6]] == [0.25, 0.5, 1.0, 0.25, 0.5, 1.0]


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
    assert {job.fraction for job in jobs} == {0.25, 0.5, 1.0}
    on = [job for job in jobs if job.fraction == 1.0]
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
