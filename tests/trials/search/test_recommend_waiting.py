"""A trial that an exhausted budget left waiting may be recommended, and then ends here."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sret_nas.arch.cost import cost_of
from tests.trials.planted_search import NUM_TRIALS, trial_result, write_search
from tests.trials.scripted_engine import End, ScriptedEngine
from trials.engines.jobs import LatencyJob
from trials.engines.results import Failure
from trials.engines.retries import AttemptResult
from trials.runs.directory import RECORDS_FILE
from trials.runs.history import read_history
from trials.runs.recommendation import ORIGIN, Recommendations
from trials.runs.recorded_search import RecordedSearch
from trials.runs.records import Records
from trials.runs.trial import Trial
from trials.search import recommend as module
from trials.search.recommend import _record, recommend
from trials.search.run import Run
from trials.strategies.structure import StructureModel
from trials.training.recipe import ProxyConfig

pytestmark = pytest.mark.slow

WAITING = NUM_TRIALS


class QuietRun(Run):
    """A run whose report is not written."""

    def refresh_report(self) -> None:
        pass


def resumed(search: RecordedSearch, records: Records) -> QuietRun:
    return QuietRun(
        search.run_dir, search.options, search.domain, Path(), ProxyConfig.model_construct(), records, records.reopen(),
        Console(file=io.StringIO()),
    )  # fmt: skip


@pytest.fixture
def search(tmp_path: Path) -> RecordedSearch:
    """Returns a search with early stopping whose last trial waits at its first rung of three."""
    search = write_search(tmp_path / "run", num_failed=1, no_supernet=True, rungs=3)
    candidate = search.domain.draw(np.random.default_rng(99))
    cost = cost_of(candidate.arch)
    with Records(search.run_dir, must_exist=True) as records:
        records.reopen()
        records.asked(WAITING, candidate, cost.flops, cost.params, origin="additive")
        records.rung(WAITING, trial_result(candidate), 0.1, 1 / 9)
    return search


@pytest.fixture
def run(search: RecordedSearch) -> Iterator[QuietRun]:
    with Records(search.run_dir, must_exist=True) as records:
        yield resumed(search, records)


@pytest.mark.parametrize("fails", [False, True])
def test_it_counts_as_the_part_that_was_run_and_leaves_no_checkpoint(fails: bool, run: QuietRun) -> None:
    trial = run.history.trials[WAITING]
    checkpoint = run.checkpoint_path(trial)
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"weights")
    ended: list[Trial] = []
    result = None if fails else trial_result(trial.candidate).model_dump(mode="json")
    failure = Failure(cause="diverged", message="the loss is nan") if fails else None
    _record(run, AttemptResult(WAITING, result, failure, 2.0, will_run_again=False), ended.append)
    assert ended == [trial]
    assert not checkpoint.exists()
    last = (run.run_dir / RECORDS_FILE).read_text().splitlines()[-1]
    assert f'"part": {8 / 9}' in last


def test_one_that_was_never_begun_counts_whole(run: QuietRun) -> None:
    candidate = run.domain.draw(np.random.default_rng(100))
    run.records.asked(WAITING + 1, candidate, 1, 1, origin=ORIGIN)
    trial = run.history.trials[WAITING + 1] = Trial(WAITING + 1, candidate, ORIGIN)
    result = trial_result(candidate).model_dump(mode="json")
    _record(run, AttemptResult(trial.number, result, None, 2.0, will_run_again=False), lambda trial: None)
    assert '"part"' not in (run.run_dir / RECORDS_FILE).read_text().splitlines()[-1]


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_recommended_with_it_is_not_chosen_anew_whether_it_fails_or_not(
    fails: bool, search: RecordedSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, other = (read_history(search.run_dir).trials[number].candidate for number in (WAITING, 0))

    def best(model: StructureModel, limit: float, excluded: Any = ()) -> Any:
        return other if waiting.key in excluded else waiting

    monkeypatch.setattr(StructureModel, "best_within", best)
    monkeypatch.setattr(StructureModel, "bend", lambda model, limit: None)
    monkeypatch.setattr(module, "trial_job", lambda run, trial, fraction: LatencyJob())
    failure = Failure(cause="diverged", message="the loss is nan")

    def play(payload: dict[str, Any], attempt: int) -> End:
        return failure if fails else trial_result(waiting).model_dump(mode="json")

    known: list[Recommendations | None] = []
    written: list[int] = []
    for _ in range(2):
        with Records(search.run_dir, must_exist=True) as records:
            run = resumed(search, records)
            recommend(run, ScriptedEngine(play), lambda trial: None)
        known.append(run.history.recommended)
        written.append((search.run_dir / RECORDS_FILE).read_text().count('"event": "recommended"'))
    assert written[0] == written[1] > 1
    assert known[0] is not None
    assert known[0] == known[1]
    assert known[0].is_final
    assert known[0].awaited == (WAITING,)
    assert all(run.history.trials[network.number].result is not None for network in known[0].networks)
