"""The search as an Optuna study on disk, for optuna-dashboard: written beside the search, never read by it.

It is a function of the records: it is written anew when a search starts or resumes, then one trial is appended per
trial that ends. (A journal in the loop would cost 70-100 ms per ask, and one left by a killed writer blocks for 30 s.)
"""

from __future__ import annotations

import warnings
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from trials.objectives import Objective, objective_values
from trials.records import Trial
from trials.strategies.optuna import constraints, distributions
from trials.strategies.sret import SReTDomain

JOURNAL_FILE = "optuna-journal.log"


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
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))
        self._study = optuna.create_study(
            storage=storage, study_name=run_dir.name, directions=["minimize"] * len(objectives)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names(list(objectives))

    def add(self, trial: Trial) -> None:
        """One finished (COMPLETE), stopped (PRUNED) or failed (FAIL) trial; nothing is ever left RUNNING."""
        attributes: dict[str, object] = {"trial": trial.number, "arch_id": trial.candidate.arch.arch_id}
        if trial.result is not None:
            attributes.update(trial.result.model_dump(mode="json", exclude={"proxy_arch"}))
        elif trial.failure is not None:
            attributes.update(cause=trial.failure.cause, message=trial.failure.message)
        elif trial.is_stopped:
            attributes.update(trial.partial[-1].model_dump(mode="json", exclude={"proxy_arch"}))
        frozen = optuna.trial.create_trial(
            state=_state(trial),
            values=None if trial.result is None else list(objective_values(trial.result, self._objectives)),
            params=dict(self._domain.encode(trial.candidate)),
            distributions=self._distributions,
            user_attrs=attributes,
        )
        for name, slack in constraints(trial.candidate, self._domain).items():
            frozen.set_constraint(name, slack)
        self._study.add_trial(frozen)


def _state(trial: Trial) -> TrialState:
    if trial.result is not None:
        return TrialState.COMPLETE
    return TrialState.PRUNED if trial.is_stopped else TrialState.FAIL
