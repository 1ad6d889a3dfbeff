"""The strategies inside Ray Tune's own loop, as its users write it."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sret_nas import ArchConfig, Budget, SearchSpace, UserError, cost_of
from tests.trials.integrations.smoke_studies import BUDGET, NAMES, SMOKE, error_of, usage
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import StrategyName

Searcher = Callable[..., Any]


@pytest.fixture
def searcher() -> Searcher:
    """Returns a searcher over a few candidates."""
    from trials.integrations.ray_searcher import StrategySearcher

    def create(name: StrategyName = "evolution", **fields: Any) -> Any:
        return StrategySearcher(name, SMOKE, BUDGET, **{"population": 4, **fields})

    return create


def drive(searcher: Any, numbers: range, pending: int = 2) -> list[tuple[str, str]]:
    """Returns some trials of a search, results two behind; every fifth fails in another way."""
    failures: list[dict[str, Any]] = [
        {"result": {"error": float("nan")}}, {"result": None, "error": True}, {"result": {"error": 0.1}, "error": True},
    ]  # fmt: skip
    keys = []
    for number in numbers:
        suggested = searcher.suggest(f"t{number}")
        arch = ArchConfig.from_dict(suggested["architecture"])
        keys.append((arch.arch_id, suggested["depth_schedule"]))
        told = number - pending
        if told >= 0 and f"t{told}" in searcher._session.running:
            error = error_of(searcher._session.running[f"t{told}"].arch)
            result = {"result": {"error": error}} if told % 5 < 4 else failures[told // 5 % 3]
            searcher.on_trial_complete(f"t{told}", **result)
    return keys


@pytest.mark.slow
def test_a_searcher_asks_what_the_strategy_asks_and_tells_exact_costs(searcher: Searcher) -> None:
    """Costs need not be reported: they are known."""
    found = searcher()
    domain = SReTDomain(SMOKE, BUDGET)
    strategy = create_strategy("evolution", domain, ("error", "flops"), seed=0, population=4)
    asked = []
    for number in range(8):
        candidate = strategy.ask()
        assert candidate is not None
        asked.append(candidate)
        if number >= 2:
            told = asked[number - 2]
            values = (error_of(told.arch), float(cost_of(told.arch).flops))
            strategy.tell(told, None if (number - 2) % 5 == 4 else values)
    assert drive(found, range(8)) == [candidate.key for candidate in asked]
    told = [event["values"] for event in found._session.events if "told" in event]
    assert told[4] is None
    assert told[0] == [error_of(asked[0].arch), cost_of(asked[0].arch).flops]


def test_every_kind_of_failure_is_told_as_one(searcher: Searcher) -> None:
    found = searcher("random", objectives=("error",))
    for number, result in enumerate([
        {"result": {"error": float("nan")}}, {"result": {"error": 0.1}, "error": True},
        {"result": {"error": 0.25}}, {"result": {"error": float("inf")}},
    ]):  # fmt: skip
        found.suggest(f"t{number}")
        found.on_trial_complete(f"t{number}", **result)
    values = [event["values"] for event in found._session.events if "told" in event]
    assert values == [None, None, [0.25], None]
    restored = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own
    assert [event["values"] for event in restored._session.events if "told" in event] == values
    found.on_trial_complete("a stranger", result={"error": 0.1})
    assert len(found._session.events) == 8


@pytest.mark.parametrize("result", [{"loss": 1.0}, {}, None])
def test_an_objective_that_is_not_reported_ends_the_search(searcher: Searcher, result: dict[str, float] | None) -> None:
    found = searcher("random", objectives=("error",))
    found.suggest("t0")
    with pytest.raises(UserError, match=r"^trial t0 ended without having reported error: "):
        found.on_trial_complete("t0", result=result)


def test_a_searcher_refuses_costs_that_are_not_the_network_s(searcher: Searcher) -> None:
    found = searcher("random")
    arch = ArchConfig.from_dict(found.suggest("t0")["architecture"])
    with pytest.raises(UserError, match=r"^flops of network"):
        found.on_trial_complete("t0", result={"error": 0.5, "flops": 2.0 * cost_of(arch).flops})


@pytest.mark.parametrize(
    ("metric", "mode", "message"),
    [("error", "max", "minimises its objectives, got mode 'max'"), ("accuracy", "min", "got 'accuracy'"),
     (["error", "flops"], ["min", "max"], "minimises its objectives")],
)  # fmt: skip
def test_a_tuner_that_does_not_minimise_is_refused(searcher: Searcher, metric: Any, mode: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        searcher("random").set_search_properties(metric, mode, {})
    searcher("random").set_search_properties("error", "min", {})  # is taken


def test_a_searcher_ends_when_every_candidate_was_tried(searcher: Searcher) -> None:
    found = searcher("random")
    everything = {candidate.key for candidate in SReTDomain(SMOKE, BUDGET)}
    assert set(drive(found, range(len(everything)))) == everything
    assert found.suggest("one more") == "FINISHED"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_restored_searcher_carries_on_as_if_uninterrupted(
    name: StrategyName, searcher: Searcher, tmp_path: Path
) -> None:
    whole = drive(searcher(name), range(9))
    begun = searcher(name)
    assert drive(begun, range(5)) == whole[:5]
    begun.save(str(tmp_path / "state.json"))
    restored = searcher(name)
    restored.restore(str(tmp_path / "state.json"))
    unpickled = pickle.loads(pickle.dumps(begun))  # noqa: S301 - ours
    assert drive(restored, range(5, 9)) == whole[5:]
    assert drive(unpickled, range(5, 9)) == whole[5:]


def test_another_search_s_state_is_refused(searcher: Searcher, tmp_path: Path) -> None:
    begun, path = searcher("random"), tmp_path / "state.json"
    drive(begun, range(3))
    begun.save(str(path))
    with pytest.raises(UserError, match="seed cannot change in a restored search: it was 0, got 1"):
        searcher("random", seed=1).restore(str(path))
    state = json.loads(path.read_text())
    state["events"][1]["key"][0] = "0" * 12
    path.write_text(json.dumps(state))
    with pytest.raises(UserError, match=r"it had asked for \['000000000000'.*the strategy now asks for"):
        searcher("random").restore(str(path))


TUNE = """
import json, sys, tempfile
from pathlib import Path
import ray
from ray import tune
import trials.integrations.ray_searcher as ray_searcher
from trials.integrations.ray_searcher import StrategySearcher
from sret_nas import ArchConfig, Budget, cost_of

def trainable(config):
    from ray import tune
    from sret_nas import ArchConfig, cost_of
    arch = ArchConfig.from_dict(config["architecture"])
    marker = Path(config["folder"]) / arch.arch_id
    if config["fails_once"] and not any(Path(config["folder"]).iterdir()):
        marker.touch()
        raise ArithmeticError
    marker.touch()
    tune.report({"error": 1000 / cost_of(arch).params, "id": arch.arch_id, "schedule": config["depth_schedule"]})

def fit(tuner):
    return [(r.metrics.get("id"), r.metrics.get("schedule"), r.metrics.get("error")) for r in tuner.fit()]

folder, usage = Path(sys.argv[1]), sys.argv[2]
(folder / "tried").mkdir()
session = tempfile.TemporaryDirectory(prefix="ray")  # short: it holds sockets
ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", _temp_dir=session.name)
space = {"folder": str(folder / "tried"), "fails_once": True}
run = tune.RunConfig(name="run", storage_path=str(folder / "results"), verbose=0)
searcher = StrategySearcher("evolution", "sret_tiny", Budget(flops_max=10**9), population=4)
config = tune.TuneConfig(search_alg=searcher, num_samples=6, max_concurrent_trials=1, reuse_actors=True)
first = fit(tune.Tuner(trainable, param_space=space, tune_config=config, run_config=run))
restored = tune.Tuner.restore(
    str(folder / "results" / "run"), trainable, param_space={**space, "fails_once": False}, restart_errored=True
)
again = fit(restored)
exec(usage)
print(json.dumps({"first": first, "again": again, "shown": tuner._local_tuner._tune_config.num_samples}))
ray.shutdown()
"""


@pytest.mark.slow
def test_a_tuner_runs_on_this_machine_and_restores(tmp_path: Path) -> None:
    """Six real trials, one of which fails and is run again by `Tuner.restore`."""
    import trials.integrations.ray_searcher as ray_searcher

    (tmp_path / "home").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {
        "HOME": str(tmp_path / "home"), "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0",
    }  # fmt: skip
    script = tmp_path / "tune_search.py"
    script.write_text(TUNE)
    finished = subprocess.run(
        [sys.executable, str(script), str(tmp_path), usage(ray_searcher)],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    found = json.loads(finished.stdout.splitlines()[-1])
    assert found["shown"] == 100

    strategy = create_strategy(
        "evolution", SReTDomain(SearchSpace.load("sret_tiny"), Budget(flops_max=10**9)), ("error", "flops"),
        seed=0, population=4,
    )  # fmt: skip
    expected: list[list[Any]] = []
    for number in range(6):
        candidate = strategy.ask()
        assert candidate is not None
        error = error_of(candidate.arch)
        expected.append([*candidate.key, error])
        strategy.tell(candidate, (error, float(cost_of(candidate.arch).flops)) if number else None)
    failed = [[None, None, None], *expected[1:]]
    assert found["first"] == failed
    assert sorted(found["again"]) == sorted(expected)  # the restarted trial may come last
