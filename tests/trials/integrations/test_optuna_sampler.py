"""The strategies inside Optuna's own loop, as its users write it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import optuna
import pytest

import trials.integrations.optuna_sampler as optuna_sampler
from sret_nas import ArchConfig, Budget, UserError, cost_of
from tests.trials.integrations.smoke_studies import BUDGET, NAMES, SMOKE, create_study, error_of, usage, values_of
from trials.integrations.optuna_sampler import StrategySampler, architecture
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import StrategyName


def objective(trial: optuna.Trial) -> tuple[float, float]:
    """Lets trial 2 fail and prunes trial 3; what is left is quick."""
    arch, schedule = architecture(trial)
    if trial.number == 2:
        raise ArithmeticError
    if trial.number == 3:
        raise optuna.TrialPruned
    return error_of(arch) + 0.01 * (schedule == "full"), float(cost_of(arch).flops)


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


@pytest.mark.slow
def test_the_usage_that_optuna_sampler_shows_works() -> None:
    names: dict[str, Any] = {"StrategySampler": StrategySampler, "Budget": Budget, "optuna": optuna}
    assert len(usage(optuna_sampler).splitlines()) == 2
    exec(usage(optuna_sampler), names)
    names["study"].optimize(objective, n_trials=2)
    flops = [trial.values[1] for trial in names["study"].trials]
    assert [cost_of(ArchConfig.from_dict(t.user_attrs["architecture"])).flops for t in names["study"].trials] == flops
    assert max(flops) <= 10**9
    assert names["sampler"].spec.strategy == "additive"
