"""Budgets that say nothing of the largest cost: what is recommended goes by the most expensive network or trial."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sret_nas.arch.cost import cost_of
from tests.trials.planted_search import trial_result, write_search
from tests.trials.scripted_engine import ScriptedEngine
from trials.engines.jobs import LatencyJob
from trials.runs.best import choose_best
from trials.runs.recommendation import SHARES
from trials.runs.recorded_search import RecordedSearch
from trials.runs.records import Records
from trials.search import recommend as module
from trials.search.recommend import recommend
from trials.search.run import Run
from trials.strategies.strategy import Candidate
from trials.strategies.structure import WINDOWS
from trials.training.recipe import ProxyConfig

pytestmark = pytest.mark.slow


class QuietRun(Run):
    """A run whose report is not written."""

    def refresh_report(self) -> None:
        pass


def recommended_run(search: RecordedSearch, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, str]:
    """Has a recorded search recommend, with planted errors. Returns its run and what it printed."""
    waiting: list[Candidate] = []
    monkeypatch.setattr(
        module, "trial_job", lambda run, trial, fraction: waiting.append(trial.candidate) or LatencyJob()
    )
    engine = ScriptedEngine(lambda payload, attempt: trial_result(waiting.pop(0)).model_dump(mode="json"))
    console = Console(file=io.StringIO(), width=200)
    with Records(search.run_dir, must_exist=True) as records:
        run = QuietRun(
            search.run_dir, search.options, search.domain, Path(), ProxyConfig.model_construct(), records,
            records.reopen(), console,
        )  # fmt: skip
        recommend(run, engine, lambda trial: None)
    assert isinstance(console.file, io.StringIO)
    return run, console.file.getvalue()


@pytest.mark.parametrize("budget", [{"flops_budget": 9_000_000}, {"flops_budget": 9_000_000, "params_budget": 12_000}])
def test_shares_are_those_of_the_most_expensive_network(
    budget: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = write_search(tmp_path / "run", **budget)
    costs = [cost_of(candidate.arch).flops for candidate in search.domain]
    most = max(costs)
    run, said = recommended_run(search, monkeypatch)
    known = run.history.recommended
    assert known is not None
    limits = [int(share * most) for share in SHARES]
    assert [network.limit for network in known.shares] == [limit for limit in limits if limit >= min(costs)]
    assert len(known.shares) >= 3
    for network in known.shares:
        assert cost_of(run.history.trials[network.number].candidate.arch).flops >= WINDOWS[-1] * network.limit
    best = choose_best(run.trials, search.options.objectives, "expected", known)
    assert cost_of(best.trial.candidate.arch).flops >= WINDOWS[0] * most
    assert f"that cost about {known.networks[0].label}," in best.reason
    assert said.count(f"No network within the budget has more than {known.networks[0].label}: shares are of that") == 1


@pytest.mark.parametrize("budget", [{"flops_budget": None}, {"flops_budget": None, "shallowest_flops_budget": 900_000}])
def test_without_a_bound_shares_are_those_of_the_most_expensive_trial(
    budget: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = write_search(tmp_path / "run", **budget)
    most = max(cost_of(trial.candidate.arch).flops for trial in search.history.in_order)
    search.history.recommended = None
    run, said = recommended_run(search, monkeypatch)
    known = run.history.recommended
    assert known is not None
    assert (known.networks[0].cost, known.networks[0].limit, known.networks[0].share) == ("flops", most, 1.0)
    line = f"No cost is bounded from above: shares are of the largest trial's {known.networks[0].label}"
    assert said.count(line) == 1
    assert f"Recommending the best structure at {known.networks[0].label}" in said
    assert "within the budget" not in said
