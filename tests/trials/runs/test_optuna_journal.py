"""The Optuna study that is written beside a search."""

from __future__ import annotations

import warnings
from datetime import datetime
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import shipped
from tests.trials.planted_search import write_search
from trials.engines.results import Failure, TargetCost, TrialResult
from trials.runs.optuna_journal import JOURNAL_FILE, OptunaJournal, has_journal
from trials.runs.trial import Trial
from trials.strategies.optuna import constraints
from trials.strategies.sret import SReTDomain

SPACE = shipped("sret_tiny")
DOMAIN = SReTDomain(SPACE, Budget(flops_max=10**9))


def trials_that_ended(number: int) -> list[Trial]:
    """Returns trials of which every third has failed, and the fifth was stopped at its second rung."""
    rng, trials = np.random.default_rng(0), []
    for position in range(number):
        trial = Trial(position, DOMAIN.draw(rng))
        arch = trial.candidate.arch
        cost = cost_of(arch)
        target = TargetCost(flops=cost.flops, params=cost.params, image_size=224, classes=1000)
        if position % 3 == 2:
            trial.failure = Failure(cause="diverged", message=f"number {position}")
        else:
            result = TrialResult(
                error=position / 100, cross_entropy=1.0, error_by_depth=[1.0], train_loss=1.0, train_steps=1,
                train_images=1, train_seconds=1.0, seconds=1.0, target=target, proxy=target, proxy_arch=arch,
                device="cpu", peak_memory_mb=1.0,
            )  # fmt: skip
            if position == 4:
                trial.add_partial(result.model_copy(update={"error": 0.9}))
                trial.add_partial(result)
                trial.is_stopped = True
            else:
                trial.result = result
        trial.began, trial.ended = 1000.0 + position, 1000.5 + position
        trials.append(trial)
    return trials


def written(run_dir: Path, trials: list[Trial]) -> list[optuna.trial.FrozenTrial]:
    """Returns the trials of the study on disk, as others read it."""
    run_dir.mkdir()
    journal = OptunaJournal(run_dir, DOMAIN, ("error", "flops"), {"budget": "FLOPs at most 1G"})
    for trial in trials:
        journal.add(trial)
    journal.flush()
    return read(run_dir).get_trials()


def read(run_dir: Path) -> optuna.Study:
    backend = optuna.storages.journal.JournalFileBackend(str(run_dir / JOURNAL_FILE))
    study = optuna.load_study(study_name=run_dir.name, storage=optuna.storages.JournalStorage(backend))
    assert study.metric_names == ["error", "flops"]
    return study


def test_trials_that_optuna_forgets_are_in_the_journal_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = trials_that_ended(9)
    whole = written(tmp_path / "whole", trials)
    monkeypatch.setattr("trials.runs.optuna_journal.MAX_IN_MEMORY", 4)
    forgotten = written(tmp_path / "forgotten", trials)
    assert [trial.user_attrs["trial"] for trial in forgotten] == list(range(9))
    for mine, other, trial in zip(forgotten, whole, trials, strict=True):
        assert (mine.number, mine.state, mine.values) == (other.number, other.state, other.values)
        assert (mine.params, mine.user_attrs, mine.constraints) == (other.params, other.user_attrs, other.constraints)
        assert mine.params == DOMAIN.encode(trial.candidate)
        assert (mine.datetime_start, mine.datetime_complete) == (other.datetime_start, other.datetime_complete)
        assert mine.values == (None if trial.result is None else [trial.result.error, trial.result.target.flops])


def test_optuna_holds_only_the_last_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trials.runs.optuna_journal.MAX_IN_MEMORY", 4)
    journal = OptunaJournal(tmp_path, DOMAIN, ("error", "flops"))
    held = []
    for trial in trials_that_ended(9):
        journal.add(trial)
        held.append(len(journal._study.get_trials(deepcopy=False)))
    assert held == [1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_it_holds_what_is_known_of_each_trial(tmp_path: Path) -> None:
    trials = trials_that_ended(6)
    for frozen, trial in zip(written(tmp_path / "run", trials), trials, strict=True):
        known = trial.result or (trial.partial[-1] if trial.is_stopped else None)
        expected = {"trial": trial.number, "arch_id": trial.candidate.arch.arch_id}
        if known is not None:
            expected |= known.model_dump(mode="json", exclude={"proxy_arch"})
        else:
            expected |= {"cause": "diverged", "message": f"number {trial.number}"}
        assert frozen.user_attrs == expected
        assert frozen.constraints == constraints(trial.candidate, DOMAIN)
        assert list(frozen.constraints) == ["flops"]
    states = [trial.state.name for trial in written(tmp_path / "again", trials)]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "PRUNED", "FAIL"]


def test_a_journal_that_is_there_is_written_anew_whatever_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_text("torn")
    (tmp_path / f"{JOURNAL_FILE}.lock").touch()
    journal = OptunaJournal(tmp_path, DOMAIN, ("error", "flops"))
    assert not (tmp_path / f"{JOURNAL_FILE}.lock").exists()
    assert not (tmp_path / JOURNAL_FILE).read_text().startswith("torn")
    trials = trials_that_ended(4)
    assert not has_journal(tmp_path, trials[:1])
    for trial in trials[:3]:
        journal.add(trial)
    assert [has_journal(tmp_path, trials[:number]) for number in (2, 3, 4)] == [False, True, False]
    assert not has_journal(tmp_path / "elsewhere", [])


@pytest.mark.slow
def test_a_trial_has_its_own_number_its_times_and_only_what_varies(tmp_path: Path) -> None:
    domain = SReTDomain(SearchSpace.from_dict({**SPACE.to_dict(), "depth_schedules": ["full"]}, "space"), Budget())
    trials = trials_that_ended(5)
    (tmp_path / "run").mkdir()
    journal = OptunaJournal(tmp_path / "run", domain, ("error", "flops"), {"budget": "FLOPs at most 1G"})
    for number in (1, 0, 4, 3):  # two workers
        journal.add(trials[number])
    assert [trial.number for trial in read(tmp_path / "run").trials] == [0, 1]
    journal.add(trials[2])
    study = read(tmp_path / "run")
    assert [(trial.number, trial.user_attrs["trial"]) for trial in study.trials] == [(n, n) for n in range(5)]
    assert study.user_attrs == {"budget": "FLOPs at most 1G"}
    last = study.trials[-1]
    assert (last.datetime_start, last.datetime_complete) == (
        datetime.fromtimestamp(1004),
        datetime.fromtimestamp(1004.5),
    )
    assert "stage1.width" in last.params
    assert "depth_schedule" not in last.params  # a supernet has one


def test_a_trial_that_never_ended_holds_nothing_up_for_good(tmp_path: Path) -> None:
    trials = trials_that_ended(4)
    written(tmp_path / "run", [trials[0], trials[2], trials[3]])
    assert [trial.user_attrs["trial"] for trial in read(tmp_path / "run").trials] == [0, 2, 3]
    assert has_journal(tmp_path / "run", [trials[0], Trial(1, trials[1].candidate), trials[2], trials[3]])
    assert not has_journal(tmp_path / "run", trials)


def test_rungs_are_intermediate_values(tmp_path: Path) -> None:
    stopped, finished = trials_that_ended(2)
    assert stopped.result is not None
    stopped.add_partial(stopped.result)
    stopped.result, stopped.is_stopped = None, True
    assert finished.result is not None
    finished.add_partial(finished.result.model_copy(update={"error": 0.5}))
    first, second = written(tmp_path / "run", [stopped, finished])
    assert (first.state, first.intermediate_values) == (TrialState.PRUNED, {0: 0.0})
    assert (second.state, second.intermediate_values) == (TrialState.COMPLETE, {0: 0.5, 1: 0.01})


def test_what_was_found_at_the_end_is_in_a_journal_that_is_written_anew(tmp_path: Path) -> None:
    search = write_search(tmp_path / "run")
    trials = search.history.in_order
    journal = OptunaJournal(tmp_path / "run", search.domain, search.options.objectives)
    for trial in trials:
        journal.add(Trial(trial.number, trial.candidate, result=trial.result, failure=trial.failure))
    assert not has_journal(tmp_path / "run", trials)
    journal = OptunaJournal(tmp_path / "run", search.domain, search.options.objectives)
    for trial in trials:
        journal.add(trial)
    assert has_journal(tmp_path / "run", trials)
    attributes = read(tmp_path / "run").trials[0].user_attrs
    assert {name: value for name, value in attributes.items() if name.startswith("found_")} == {
        "found_fine_tuned_error": 0.2, "found_fine_tuned_test_error": 0.21, "found_from_scratch_error": 0.2,
        "found_from_scratch_test_error": 0.25, "found_control_error": 0.2, "found_control_test_error": 0.29,
    }  # fmt: skip


@pytest.mark.slow
def test_optuna_names_the_choice_that_matters(tmp_path: Path) -> None:
    """A second recursion of the first stage is worth 5 points in this search, and other choices nothing."""
    search = write_search(tmp_path / "run", num_failed=0)
    journal = OptunaJournal(tmp_path / "run", search.domain, search.options.objectives)
    for trial in search.history.in_order:
        journal.add(trial)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes")  # low errors are what we want
        importances = optuna.importance.get_param_importances(
            read(tmp_path / "run"),
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
            target=lambda trial: trial.values[0],
        )
    assert next(iter(importances)) == "stage1.recursions"
    assert set(importances) <= {name for name, dim in search.domain.dimensions.items() if len(dim) > 1}
