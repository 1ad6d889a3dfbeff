"""The Optuna study that is written beside a search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.space.search_space import SearchSpace
from trials.engines.messages import Failure, TargetCost, TrialResult
from trials.runs.optuna_journal import JOURNAL_FILE, OptunaJournal, has_journal
from trials.runs.trial import Trial
from trials.strategies.optuna import constraints
from trials.strategies.sret import SReTDomain

DOMAIN = SReTDomain(SearchSpace.load("sret_tiny"), Budget(flops_max=10**9))


def trials_that_ended(number: int) -> list[Trial]:
    """Every third has failed, and the fifth was stopped at its second rung."""
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
        trials.append(trial)
    return trials


def written(run_dir: Path, trials: list[Trial]) -> list[optuna.trial.FrozenTrial]:
    """The trials of the study on disk, as others read it."""
    run_dir.mkdir()
    journal = OptunaJournal(run_dir, DOMAIN, ("error", "flops"))
    for trial in trials:
        journal.add(trial)
    backend = optuna.storages.journal.JournalFileBackend(str(run_dir / JOURNAL_FILE))
    study = optuna.load_study(study_name=run_dir.name, storage=optuna.storages.JournalStorage(backend))
    assert study.metric_names == ["error", "flops"]
    return study.get_trials()


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
    assert not has_journal(tmp_path, 1)
    for trial in trials_that_ended(3):
        journal.add(trial)
    assert [has_journal(tmp_path, number) for number in (2, 3, 4)] == [False, True, False]
    assert not has_journal(tmp_path / "elsewhere", 0)
