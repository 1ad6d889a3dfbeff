"""The search as an Optuna study on disk, for optuna-dashboard. The search writes it and never reads it.

It is derived from the records: rewritten when a search starts or resumes, then appended to whenever a trial ends. (An
Optuna journal inside the search loop would cost 70-100 ms per ask, and the lock of a killed writer blocks for 30 s.)
Optuna keeps all trials of a study in memory, which a long search cannot afford, so it is made to forget them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from ..strategies.optuna import constraints, distributions
from ..strategies.sret import SReTDomain
from .objectives import Objective, objective_values
from .trial import Trial

JOURNAL_FILE = "optuna-journal.log"
_TRIAL_LINE = b'"datetime_complete"'
"""In a line of the journal that holds a trial, and in no other."""
MAX_IN_MEMORY = 200
"""Trials that Optuna holds in memory before it is made to forget them."""


def has_journal(run_dir: Path, num_trials: int) -> bool:
    """Whether a journal of so many ended trials is there."""
    path = run_dir / JOURNAL_FILE
    if not path.is_file():
        return False
    with path.open("rb") as lines:
        return sum(_TRIAL_LINE in line for line in lines) == num_trials


class OptunaJournal:
    """Appends ended trials to a journal file that holds one study, named after the run directory."""

    def __init__(self, run_dir: Path, domain: SReTDomain, objectives: tuple[Objective, ...]) -> None:
        self._objectives = objectives
        self._domain = domain
        self._distributions = distributions(domain)
        path = run_dir / JOURNAL_FILE
        path.unlink(missing_ok=True)
        (run_dir / f"{JOURNAL_FILE}.lock").unlink(missing_ok=True)  # a killed writer leaves it, and the next would wait
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._file = _ForgetfulFile(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))
        self._study = optuna.create_study(
            storage=JournalStorage(self._file), study_name=run_dir.name, directions=["minimize"] * len(objectives)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names(list(objectives))
        self._file.keep()
        self._num_in_memory = 0

    def add(self, trial: Trial) -> None:
        """Appends a finished (COMPLETE), stopped (PRUNED) or failed (FAIL) trial; none is ever left RUNNING."""
        attributes: dict[str, object] = {"trial": trial.number, "arch_id": trial.arch_id}
        candidate, result = trial.candidate, trial.result
        if result is not None:
            attributes.update(result.model_dump(mode="json", exclude={"proxy_arch"}))
        elif trial.failure is not None:
            attributes.update(cause=trial.failure.cause, message=trial.failure.message)
        elif trial.is_stopped:
            attributes.update(trial.partial[-1].model_dump(mode="json", exclude={"proxy_arch"}))
        frozen = optuna.trial.create_trial(
            state=_state(trial),
            values=None if result is None else list(objective_values(result, self._objectives)),
            params=dict(self._domain.encode(candidate)),
            distributions=self._distributions,
            user_attrs=attributes,
        )
        for name, slack in constraints(candidate, self._domain).items():
            frozen.set_constraint(name, slack)
        self._study.add_trial(frozen)
        self._num_in_memory += 1
        if self._num_in_memory == MAX_IN_MEMORY:
            self._forget()

    def _forget(self) -> None:
        """Drops the trials in memory, which is safe because a new trial's line does not depend on earlier ones."""
        self._file.forget()
        self._study = optuna.load_study(study_name=self._study.study_name, storage=JournalStorage(self._file))
        self._num_in_memory = 0


class _ForgetfulFile(BaseJournalBackend):
    """Writes everything to a file, but reads back only the study itself and what was added since `forget`."""

    def __init__(self, file: JournalFileBackend) -> None:
        self._file = file
        self._logs: list[dict[str, Any]] = []
        self._num_kept = 0

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._file.append_logs(logs)
        self._logs += logs

    def keep(self) -> None:
        """Marks everything written so far as never to be forgotten."""
        self._num_kept = len(self._logs)

    def forget(self) -> None:
        """Drops everything that `keep` did not mark; a new storage must then be opened on the rest."""
        del self._logs[self._num_kept :]


def _state(trial: Trial) -> TrialState:
    if trial.is_finished:
        return TrialState.COMPLETE
    return TrialState.PRUNED if trial.is_stopped else TrialState.FAIL
