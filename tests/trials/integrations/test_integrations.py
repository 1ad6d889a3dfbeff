"""The strategies inside Optuna's and Ray Tune's own loops, as their users write them."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest

import trials.integrations.optuna_sampler as optuna_sampler
from sret_nas import ArchConfig, Budget, BudgetError, SearchSpace, UserError, cost_of
from tests.trials.strategies.quick_gp import quick_gp
from trials.integrations.optuna_sampler import StrategySampler, architecture
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import StrategyName

SMOKE = SearchSpace.load("smoke")
NAMES = get_args(StrategyName)
BUDGET = Budget(flops_max=10**9)


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with quick_gp():
        yield


def error_of(arch: ArchConfig) -> float:
    """Returns a cheap stand-in for training."""
    return 1000 / cost_of(arch).params


def objective(trial: optuna.Trial) -> tuple[float, float]:
    """Lets trial 2 fail and prunes trial 3; what is left is quick."""
    arch, schedule = architecture(trial)
    if trial.number == 2:
        raise ArithmeticError
    if trial.number == 3:
        raise optuna.TrialPruned
    return error_of(arch) + 0.01 * (schedule == "full"), float(cost_of(arch).flops)


def create_study(sampler: StrategySampler) -> optuna.Study:
    return optuna.create_study(directions=["minimize"] * len(sampler.setting.objectives), sampler=sampler)


def by_hand(name: StrategyName, number: int, fail: tuple[int, ...] = (2, 3)) -> list[tuple[str, str]]:
    """Returns the same search with the strategy alone."""
    domain = SReTDomain(SMOKE, BUDGET)
    strategy = create_strategy(name, domain, ("error", "flops"), seed=0, population=4)
    keys = []
    for position in range(number):
        candidate = strategy.ask()
        assert candidate is not None
        keys.append(candidate.key)
        error = error_of(candidate.arch) + 0.01 * (candidate.depth_schedule == "full")
        values = (error, float(cost_of(candidate.arch).flops))
        strategy.tell(candidate, None if position in fail else values)
    return keys


def keys_of(study: optuna.Study) -> list[tuple[str, str]]:
    """Returns what the trials tried, from what they keep."""
    return [
        (ArchConfig.from_dict(trial.user_attrs["architecture"]).arch_id, trial.user_attrs["depth_schedule"])
        for trial in study.trials
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_study_tries_what_the_strategy_proposes(name: StrategyName) -> None:
    study = create_study(StrategySampler(name, "smoke", BUDGET, population=4))
    study.optimize(objective, n_trials=7, catch=(ArithmeticError,))
    assert keys_of(study) == by_hand(name, 7)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "PRUNED", "COMPLETE", "COMPLETE", "COMPLETE"]
    for trial, (arch_id, schedule) in zip(study.trials, keys_of(study), strict=True):
        decoded = SMOKE.decode(trial.params)
        assert decoded is not None
        assert (decoded.arch_id, trial.params["depth_schedule"]) == (arch_id, schedule)


@pytest.mark.slow
def test_asking_and_telling_is_the_same_search() -> None:
    study = create_study(StrategySampler("evolution", SMOKE, BUDGET, population=4))
    for number in range(7):
        trial = study.ask()
        arch, schedule = architecture(trial)
        if number in (2, 3):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        study.tell(trial, (error_of(arch) + 0.01 * (schedule == "full"), float(cost_of(arch).flops)))
    assert keys_of(study) == by_hand("evolution", 7)


def test_what_is_no_number_and_what_was_pruned_is_told_as_a_failure() -> None:
    """Optuna takes the last report of a pruned trial for its value; it is not one of a whole training."""
    sampler = StrategySampler("random", SMOKE, BUDGET, objectives=("error",))

    def report(trial: optuna.Trial) -> float:
        architecture(trial)
        trial.report(0.25, step=1)
        if trial.number == 2:
            raise optuna.TrialPruned
        return float("nan") if trial.number == 1 else 0.5

    study = create_study(sampler)
    study.optimize(report, n_trials=3)
    events = sampler.__getstate__()["events"]
    assert [event["values"] for event in events if "told" in event] == [[0.5], None, None]
    assert study.trials[2].value == 0.25


def values_of(arch: ArchConfig) -> tuple[float, float]:
    return error_of(arch), float(cost_of(arch).flops)


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_optimize_ends_when_every_candidate_was_tried(n_jobs: int) -> None:
    study = create_study(StrategySampler("random", SMOKE, BUDGET))
    study.optimize(
        lambda trial: values_of(architecture(trial)[0]), n_trials=500, n_jobs=n_jobs, catch=(ArithmeticError,)
    )
    domain = SReTDomain(SMOKE, BUDGET)
    everything = {candidate.key for candidate in domain}
    tried = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert len(tried) == len(everything)
    assert {key for key, trial in zip(keys_or_none(study), study.trials, strict=True) if trial in tried} == everything
    left = [trial.state.name for trial in study.trials if trial not in tried]
    assert left == ["PRUNED"] * len(left)
    assert 1 <= len(left) <= n_jobs


def keys_or_none(study: optuna.Study) -> list[tuple[str, str] | None]:
    return [
        (ArchConfig.from_dict(trial.user_attrs["architecture"]).arch_id, trial.user_attrs["depth_schedule"])
        if "architecture" in trial.user_attrs else None
        for trial in study.trials
    ]  # fmt: skip


def test_asking_on_says_that_all_was_tried() -> None:
    sampler = StrategySampler("random", SMOKE, Budget(flops_max=58_000_000))
    study = create_study(sampler)
    for _ in range(2):  # one network, trained in two ways
        trial = study.ask()
        study.tell(trial, values_of(architecture(trial)[0]))
    with pytest.raises(optuna.TrialPruned, match="all 2 candidates inside the budget have been tried"):
        architecture(study.ask())


@pytest.mark.parametrize("directions", [["minimize"], ["minimize", "maximize"], ["minimize"] * 3])
def test_other_directions_are_refused(directions: list[str]) -> None:
    study = optuna.create_study(directions=directions, sampler=StrategySampler("random", SMOKE, BUDGET))
    wanted = f"must minimise 2 values, error, flops, got the directions {', '.join(directions)}"
    with pytest.raises(UserError, match=wanted):
        study.ask()


def test_trials_without_a_network_teach_nothing(caplog: pytest.LogCaptureFixture) -> None:
    study = optuna.create_study(directions=["minimize"] * 2)
    study.optimize(lambda trial: (0.5, 1.0), n_trials=1)
    study.sampler = StrategySampler("random", SMOKE, BUDGET)
    assert architecture(study.ask())[0].arch_id == by_hand("random", 1)[0][0]
    assert "Trial 0 has no network of smoke, so nothing is learned from it." in caplog.text


def test_a_refused_trial_is_not_left_running() -> None:
    study = optuna.create_study(direction="maximize", sampler=StrategySampler("random", SMOKE, BUDGET))
    with pytest.raises(UserError):
        study.ask()
    assert [trial.state.name for trial in study.trials] == ["FAIL"]


@pytest.mark.parametrize(
    "report", [lambda error, flops: (error, 2 * flops), lambda error, flops: (flops, error)], ids=["doubled", "swapped"]
)
def test_costs_that_are_not_the_network_s_are_refused(report: Any) -> None:
    study = create_study(StrategySampler("random", SMOKE, BUDGET))
    with pytest.raises(UserError, match=r"^flops of network \w+ is [\d,]+, got .*in the order error, flops"):
        study.optimize(lambda trial: report(*values_of(architecture(trial)[0])), n_trials=2)
    assert len(study.trials) == 1


@pytest.mark.slow
def test_a_study_goes_on_in_another_process_as_if_it_had_not_been_left(tmp_path: Path) -> None:
    whole = create_study(StrategySampler("additive", SMOKE, BUDGET, population=4))
    whole.optimize(lambda trial: values_of(architecture(trial)[0]), n_trials=9)
    storage = f"sqlite:///{tmp_path}/study.db"
    for length in (5, 4):
        sampler = StrategySampler("additive", SMOKE, BUDGET, population=4)
        study = optuna.create_study(
            directions=["minimize"] * 2, sampler=sampler, storage=storage, study_name="s", load_if_exists=True
        )
        study.optimize(lambda trial: values_of(architecture(trial)[0]), n_trials=length)
    assert keys_or_none(study) == keys_or_none(whole)


@pytest.mark.slow
def test_a_pickled_sampler_goes_on() -> None:
    whole = create_study(StrategySampler("additive", SMOKE, BUDGET, population=4))
    whole.optimize(lambda trial: values_of(architecture(trial)[0]), n_trials=9)
    study = create_study(StrategySampler("additive", SMOKE, BUDGET, population=4))
    study.optimize(lambda trial: values_of(architecture(trial)[0]), n_trials=5)
    study = pickle.loads(pickle.dumps(study))  # noqa: S301
    study.optimize(lambda trial: values_of(architecture(trial)[0]), n_trials=4)
    assert keys_or_none(study) == keys_or_none(whole)


@pytest.mark.slow
def test_a_second_study_and_a_second_process_are_refused(tmp_path: Path) -> None:
    sampler = StrategySampler("random", SMOKE, BUDGET)
    create_study(sampler).ask()
    with pytest.raises(UserError, match=r"give study .* a sampler of its own"):
        create_study(sampler).ask()
    storage = f"sqlite:///{tmp_path}/study.db"
    first, second = (
        optuna.create_study(
            directions=["minimize"] * 2, sampler=StrategySampler("random", SMOKE, BUDGET), storage=storage,
            study_name="s", load_if_exists=True,
        )
        for _ in range(2)
    )  # fmt: skip
    tried = [architecture(first.ask())[0].arch_id]
    trial = second.ask()
    tried.append(architecture(trial)[0].arch_id)
    assert len(set(tried)) == 2
    second.tell(trial, values_of(architecture(trial)[0]))
    with pytest.raises(UserError, match="trial 1 of the study was proposed by another process"):
        first.ask()


def test_another_sampler_s_trials_have_no_network() -> None:
    with pytest.raises(UserError, match="must be a StrategySampler, got TPESampler"):
        architecture(optuna.create_study().ask())


def succeed(trial: optuna.Trial) -> tuple[float, float]:
    arch, _ = architecture(trial)
    return values_of(arch)


def key_of(trial: optuna.trial.FrozenTrial) -> tuple[str, str]:
    arch = ArchConfig.from_dict(trial.user_attrs["architecture"], "test")
    return arch.arch_id, trial.user_attrs["depth_schedule"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["random", "additive", "evolution", "nsga2", "tpe"])
def test_an_enqueued_network_is_tried_and_never_proposed_again(strategy: StrategyName) -> None:
    domain = SReTDomain(SMOKE, BUDGET)
    everyone = list(domain)
    study = create_study(StrategySampler(strategy, SMOKE, BUDGET, seed=3))
    study.enqueue_trial(dict(domain.encode(everyone[7])))
    study.optimize(succeed, n_trials=len(everyone) + 5)
    tried = [key_of(trial) for trial in study.trials if trial.state.name == "COMPLETE"]
    assert tried[0] == everyone[7].key
    assert sorted(tried) == sorted(candidate.key for candidate in everyone)


def test_variants_of_the_network_are_parameters_that_come_back() -> None:
    variants = {"residual": ["plain", "path"], "stem": {"kind": ["conv", "patch"]}, "head": ["class_token", "average"]}
    data = SMOKE.to_dict() | variants | {"depth_schedules": ["full"]}
    data["stages"][2]["width"] = [64]
    domain = SReTDomain(SearchSpace.from_dict(data), Budget())
    everyone = list(domain)
    study = create_study(StrategySampler("additive", domain.space, Budget(), seed=3))
    known = next(one for one in everyone if one.arch.stem.kind == "patch")
    study.enqueue_trial(dict(domain.encode(known)))
    study.optimize(succeed, n_trials=len(everyone))
    assert key_of(study.trials[0]) == known.key
    assert sorted(map(key_of, study.trials)) == sorted(one.key for one in everyone)
    for trial in study.trials:
        decoded = domain.space.decode(trial.params)
        assert decoded is not None
        found = (decoded.residual, decoded.stem.kind, decoded.head)
        assert found == tuple(trial.params[name] for name in ("residual", "stem.kind", "head"))
        assert decoded.arch_id == key_of(trial)[0]


def test_a_network_that_is_enqueued_twice_is_tried_twice_and_told_once() -> None:
    domain = SReTDomain(SMOKE, BUDGET)
    known = dict(domain.encode(next(iter(domain))))
    study = create_study(StrategySampler("additive", SMOKE, BUDGET))
    study.enqueue_trial(known)
    study.enqueue_trial(known)
    study.optimize(succeed, n_trials=5)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5
    assert study.trials[0].params == study.trials[1].params


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda known: known.pop("stage3.width"),
            "was enqueued with some dimensions of smoke, but without stage3.width",
        ),
        (lambda known: known.update({"stage3.width": 65}), r"with stage3.width = 65, which is no choice of smoke"),
    ],
)
def test_what_is_no_network_is_not_enqueued(change: Callable[[dict[str, Any]], object], message: str) -> None:
    domain = SReTDomain(SMOKE, BUDGET)
    known = dict(domain.encode(next(iter(domain))))
    change(known)
    study = create_study(StrategySampler("random", SMOKE, BUDGET))
    study.enqueue_trial(known)
    with pytest.raises(UserError, match=message):
        study.ask()
    assert [trial.state.name for trial in study.trials] == ["FAIL"]


def test_an_enqueued_network_outside_the_budget_is_refused() -> None:
    dearest = max(SReTDomain(SMOKE, BUDGET), key=lambda candidate: cost_of(candidate.arch).flops)
    budget = Budget(flops_max=cost_of(dearest.arch).flops - 1)
    study = create_study(StrategySampler("random", SMOKE, budget))
    study.enqueue_trial(dict(SReTDomain(SMOKE, BUDGET).encode(dearest)))
    with pytest.raises(UserError, match=f"network {dearest.arch.arch_id} is outside the budget: FLOPs at most"):
        study.ask()


@pytest.mark.slow
def test_trials_that_were_added_are_learned_from_before_and_during_a_study() -> None:
    """A sampler that learned of all networks but one proposes that one; in a study resumed elsewhere, too."""
    domain, storage = SReTDomain(SMOKE, BUDGET), optuna.storages.InMemoryStorage()
    everyone = list(domain)

    def add(study: optuna.Study, number: int) -> None:
        candidate = everyone[number]
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(domain.encode(candidate)), distributions=optuna_sampler.distributions(domain),
                values=values_of(candidate.arch),
            )
        )  # fmt: skip

    study = optuna.create_study(
        directions=["minimize"] * 2, sampler=StrategySampler("additive", SMOKE, BUDGET), storage=storage, study_name="s"
    )
    for number in range(5):
        add(study, number)
    study.optimize(succeed, n_trials=1)
    tried = key_of(study.trials[-1])
    left = [number for number in range(5, len(everyone)) if everyone[number].key != tried]
    for number in left[:-1]:
        add(study, number)
    study.optimize(succeed, n_trials=1)
    assert key_of(study.trials[-1]) == everyone[left[-1]].key
    elsewhere = optuna.load_study(study_name="s", sampler=StrategySampler("additive", SMOKE, BUDGET), storage=storage)
    with pytest.raises(optuna.TrialPruned, match="have been tried"):
        architecture(elsewhere.ask())


@pytest.mark.slow
def test_nothing_is_learned_from_an_added_trial_with_costs_of_another_network(
    caplog: pytest.LogCaptureFixture,
) -> None:
    domain = SReTDomain(SMOKE, BUDGET)
    study = create_study(StrategySampler("additive", SMOKE, BUDGET))
    study.add_trial(
        optuna.trial.create_trial(
            params=dict(domain.encode(next(iter(domain)))), distributions=optuna_sampler.distributions(domain),
            values=[0.3, 7.0],
        )
    )  # fmt: skip
    study.optimize(succeed, n_trials=len(list(domain)))
    assert all(trial.state.name == "COMPLETE" for trial in study.trials)
    assert "Nothing is learned from trial 0: flops of network" in caplog.text


def test_a_study_with_an_enqueued_network_resumes_in_another_process() -> None:
    domain, storage = SReTDomain(SMOKE, BUDGET), optuna.storages.InMemoryStorage()
    whole = create_study(StrategySampler("additive", SMOKE, BUDGET))
    known = dict(domain.encode(list(domain)[4]))
    whole.enqueue_trial(known)
    whole.optimize(succeed, n_trials=8)
    first = optuna.create_study(
        directions=["minimize"] * 2, sampler=StrategySampler("additive", SMOKE, BUDGET), storage=storage, study_name="s"
    )
    first.enqueue_trial(known)
    first.optimize(succeed, n_trials=3)
    second = optuna.load_study(study_name="s", sampler=StrategySampler("additive", SMOKE, BUDGET), storage=storage)
    second.optimize(succeed, n_trials=5)
    assert [trial.params for trial in second.trials] == [trial.params for trial in whole.trials]


def test_parameters_of_one_s_own_are_suggested_by_the_independent_sampler() -> None:
    def own(sampler: StrategySampler) -> list[float]:
        study = create_study(sampler)
        return [study.ask().suggest_float("lr", 1e-4, 1e-2, log=True) for _ in range(4)]

    drawn = own(StrategySampler("random", SMOKE, BUDGET, seed=2))
    assert len(set(drawn)) == 4
    assert all(1e-4 <= value <= 1e-2 for value in drawn)
    assert own(StrategySampler("random", SMOKE, BUDGET, seed=2)) == drawn
    given = optuna.samplers.RandomSampler(seed=9)
    assert own(StrategySampler("random", SMOKE, BUDGET, seed=2, independent_sampler=given)) != drawn


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strategy": "luck"}, "strategy must be one of random, .*, got 'luck'"),
        ({"space": "nosuch"}, "there is no such file and no such shipped search space"),
        ({"objectives": ()}, "objectives must be different names"),
        ({"objectives": ("error", "error")}, "objectives must be different names"),
        ({"objectives": "error"}, "objectives must be different names"),
        ({"population": 1}, "population must be at least 2, seed at least 0, got 1 and 0"),
        ({"seed": -1}, "population must be at least 2, seed at least 0, got 16 and -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    from trials.integrations.ray_searcher import StrategySearcher

    fields = {"strategy": "random", "space": "smoke", "budget": BUDGET, **given}
    for integration in (StrategySampler, StrategySearcher):
        with pytest.raises(UserError, match=message):
            integration(**fields)
        with pytest.raises(BudgetError, match="the nearest"):
            integration("random", "smoke", Budget(flops_max=1_000_000))


def usage(module: Any) -> str:
    """Returns the lines of code that a module's docstring shows."""
    blocks = [part for part in module.__doc__.split("\n\n") if part.startswith("    ")]
    assert len(blocks) == 1
    return textwrap.dedent(blocks[0])


@pytest.mark.slow
def test_the_usage_that_optuna_sampler_shows_works() -> None:
    names: dict[str, Any] = {"StrategySampler": StrategySampler, "Budget": Budget, "optuna": optuna}
    assert len(usage(optuna_sampler).splitlines()) == 2
    exec(usage(optuna_sampler), names)
    names["study"].optimize(objective, n_trials=2)
    flops = [trial.values[1] for trial in names["study"].trials]
    assert [cost_of(ArchConfig.from_dict(t.user_attrs["architecture"])).flops for t in names["study"].trials] == flops
    assert max(flops) <= 10**9
    assert names["sampler"].setting.strategy == "additive"


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
