"""The search as an Optuna study on disk, for optuna-dashboard and Optuna's own plots. The search never reads it.

It is derived from the records: rewritten when a search starts or resumes, appended to whenever a trial ends, and
rewritten once more when a finalist was trained or a network was tested, since Optuna adds nothing to a trial that has
ended. (An Optuna journal inside the search loop would cost 70-100 ms per ask, and the lock of a killed writer blocks
for 30 s.) Optuna keeps all trials of a study in memory, which a long search cannot afford. So it is made to forget
them.

A study numbers its trials as they are added. So trials are added in the order of their own numbers, and one that ended
before an earlier one waits for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from pydantic import JsonValue

from ..strategies.optuna import constraints, distributions
from ..strategies.sret import SReTDomain
from .objectives import Objective, objective_values
from .trial import Trial

JOURNAL_FILE = "optuna-journal.log"
_TRIAL_LINE = b'"datetime_complete"'
"""In a line of the journal that holds a trial, and in no other."""
MAX_IN_MEMORY = 200
"""Trials that Optuna holds in memory before it is made to forget them."""


def has_journal(run_dir: Path, trials: Iterable[Trial]) -> bool:
    """Returns whether the journal on disk has all of these trials that have ended, and what was found of them since."""
    path = run_dir / JOURNAL_FILE
    if not path.is_file():
        return False
    num_ended = num_found = 0
    for trial in trials:
        num_ended += trial.has_ended
        num_found += len(trial.findings) if trial.has_ended else 0
    with path.open("rb") as lines:
        written = [line for line in lines if _TRIAL_LINE in line]
    return len(written) == num_ended and sum(line.count(b'"found_') for line in written) == num_found


class OptunaJournal:
    """Appends ended trials to a journal file that holds one study, named after the run directory."""

    def __init__(
        self,
        run_dir: Path,
        domain: SReTDomain,
        objectives: tuple[Objective, ...],
        about: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Begins a new journal in place of one that is there; `about` becomes attributes of the study."""
        self._objectives = objectives
        self._domain = domain
        self._distributions = varied(distributions(domain))
        self._waiting: dict[int, Trial] = {}
        self._next_number = 0
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
        for name, value in (about or {}).items():
            self._study.set_user_attr(name, value)
        self._file.keep()
        self._num_in_memory = 0

    def add(self, trial: Trial) -> None:
        """Adds a finished (COMPLETE), stopped (PRUNED) or failed (FAIL) trial, as soon as all before it are added."""
        if trial.number < self._next_number:  # the others did not wait for it
            self._append(trial)
            return
        self._waiting[trial.number] = trial
        while self._next_number in self._waiting:
            self._append(self._waiting.pop(self._next_number))
            self._next_number += 1

    def flush(self) -> None:
        """Adds the trials that wait for one that will not end in this session. Their numbers in the study differ."""
        for number in sorted(self._waiting):
            self._append(self._waiting.pop(number))
            self._next_number = number + 1

    def _append(self, trial: Trial) -> None:
        candidate, result = trial.candidate, trial.result
        values = self._domain.encode(candidate)
        frozen = optuna.trial.create_trial(
            state=_state(trial),
            values=None if result is None else list(objective_values(result, self._objectives)),
            params={name: values[name] for name in self._distributions},
            distributions=self._distributions,
            user_attrs=_attributes(trial),
            intermediate_values=_intermediate_values(trial, self._objectives),
        )
        _set_times(frozen, trial)
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


def varied(dimensions: Mapping[str, BaseDistribution]) -> dict[str, BaseDistribution]:
    """Returns the dimensions with at least two choices; the others only fill the plots."""
    return {name: dimension for name, dimension in dimensions.items() if not dimension.single()}


def _attributes(trial: Trial) -> dict[str, Any]:
    """Returns the trial's own number, its network, what came of it, and what was found at the end of the search."""
    attributes: dict[str, Any] = {"trial": trial.number, "arch_id": trial.arch_id}
    if trial.origin:
        attributes["origin"] = trial.origin
    result = trial.result
    if result is not None:
        attributes.update(result.model_dump(mode="json", exclude={"proxy_arch"}))
    elif trial.failure is not None:
        attributes.update(cause=trial.failure.cause, message=trial.failure.message)
    elif trial.is_stopped:
        attributes.update(trial.partial[-1].model_dump(mode="json", exclude={"proxy_arch"}))
    return attributes | {f"found_{name}": value for name, value in trial.findings.items()}


def _intermediate_values(trial: Trial, objectives: tuple[Objective, ...]) -> dict[int, float]:
    """Returns the first objective at every rung that the trial reached, by the rung's number; none without rungs."""
    if trial.num_partial == 0:
        return {}
    result = trial.result
    reached = trial.partial + ([] if result is None else [result])
    return {rung: objective_values(result, objectives)[0] for rung, result in enumerate(reached)}


def _set_times(frozen: FrozenTrial, trial: Trial) -> None:
    """Sets the times at which the trial started and ended, without a time zone, as Optuna has them."""
    if trial.ended is not None:
        frozen.datetime_complete = datetime.fromtimestamp(trial.ended)
        frozen.datetime_start = datetime.fromtimestamp(trial.ended if trial.began is None else trial.began)


def _state(trial: Trial) -> TrialState:
    if trial.is_finished:
        return TrialState.COMPLETE
    return TrialState.PRUNED if trial.is_stopped else TrialState.FAIL
