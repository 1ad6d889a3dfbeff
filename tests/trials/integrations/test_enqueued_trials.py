"""Networks that the user of an Optuna study enqueues, and trials that are added to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest

import trials.integrations.optuna_sampler as optuna_sampler
from sret_nas import ArchConfig, Budget, SearchSpace, UserError, cost_of
from tests.trials.integrations.smoke_studies import BUDGET, SMOKE, create_study, succeed, values_of
from trials.integrations.optuna_sampler import StrategySampler, architecture
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import StrategyName


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
