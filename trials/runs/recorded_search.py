"""A search as its run directory holds it: records, options and candidates, for commands that read searches."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sret_nas.errors import UserError
from sret_nas.files import validate
from sret_nas.latency.profile import LatencyProfile
from sret_nas.latency.table import LatencyTable
from sret_nas.plurals import counted
from sret_nas.space.search_space import SearchSpace

from ..strategies.sret import SReTDomain
from ..strategies.structure import MIN_RESULTS
from .directory import LOCK_FILE
from .events import check_header
from .history import History, read_history
from .options import SearchOptions
from .recommendation import ORIGIN

MAX_COUNTED = 2_000
"""Most candidates that are counted before trials are announced; about a quarter of a second."""


@dataclass(frozen=True)
class RecordedSearch:
    """A search on disk."""

    run_dir: Path
    history: History
    options: SearchOptions
    domain: SReTDomain

    @classmethod
    def open(cls, run_dir: Path) -> RecordedSearch:
        """Returns the search in a run directory. Raises `UserError` if there is none, or if it is damaged."""
        history = read_history(run_dir)
        check_header(history.header, f"{run_dir}: header of the records")
        options = SearchOptions.parse(history.header["options"], str(run_dir))
        space = SearchSpace.from_dict(history.header["space"], str(run_dir))
        domain = domain_of(space, options, recorded_profile(history.header, run_dir))
        require_candidates(history, domain, run_dir)
        return cls(run_dir, history, options, domain)

    @property
    def is_running(self) -> bool:
        return is_running(self.run_dir)

    @property
    def state(self) -> str:
        """Returns `running`, or what `state_of` does."""
        return "running" if self.is_running else state_of(self.history, self.options, self.domain)


def require_candidates(history: History, domain: SReTDomain, run_dir: Path) -> None:
    """Raises `UserError` naming the first trial of a history that is not of its search space."""
    for trial in history.in_order:
        candidate = trial.candidate
        if not domain.holds(candidate):
            raise UserError(
                f"{run_dir}: records: trial {trial.number}, {candidate.arch.arch_id} with the depth schedule "
                f"{candidate.depth_schedule}, is not in the search space that is recorded there: a record has changed"
            )


def state_of(history: History, options: SearchOptions, domain: SReTDomain) -> str:
    """Returns the state of a search that does not run.

    It is `finished`; how many of its trials have ended, e.g. `12 of 30 trials`; or `interrupted` if all have, but not
    the recommendations and finals that follow. A search that has tried every candidate inside its budget has ended all
    its trials, however many it might have run.
    """
    if history.num_ended < options.trials and not all_were_tried(history, domain):
        return f"{history.num_ended:,} of {counted(options.trials, 'trial')}"
    awaits = history.was_interrupted or history.are_finals_open or _awaits_recommendations(history, options)
    return "interrupted" if awaits else "finished"


def _awaits_recommendations(history: History, options: SearchOptions) -> bool:
    """Returns whether enough trials have finished to recommend networks, but none is recommended for good."""
    results = sum(trial.result is not None and trial.origin != ORIGIN for trial in history.in_order)
    is_settled = history.recommended is not None and history.recommended.is_final
    return options.best_by == "expected" and results >= MIN_RESULTS and not is_settled


def all_were_tried(history: History, domain: SReTDomain) -> bool:
    """Returns whether every candidate inside the budget has been tried, so that no further trial can be."""
    return num_possible(domain, 1, history) == 0


def num_possible(domain: SReTDomain, most: int, history: History | None = None) -> int:
    """Returns how many further trials there are candidates for inside the budget, at most `most`.

    Args:
        history: What has been tried already; None for nothing.

    Of more than `MAX_COUNTED` it is taken for granted that there are enough.
    """
    ended = [] if history is None else [trial.key for trial in history.in_order if trial.has_ended]
    tried, counted_most = len(set(ended)), min(max(most, 0), MAX_COUNTED)
    found = sum(1 for _ in islice(domain, tried, tried + counted_most))
    return found if found < counted_most else max(most, 0)


def is_running(run_dir: Path) -> bool:
    """Returns whether a process holds the lock of a run directory."""
    try:
        with open(run_dir / LOCK_FILE) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock, or none that can be read
        return False
    return False


def domain_of(space: SearchSpace, options: SearchOptions, profile: LatencyProfile | None) -> SReTDomain:
    """Returns the candidates of a search. Raises `BudgetError` if there are none."""
    table = None if profile is None else LatencyTable(space, profile)
    return SReTDomain(space, options.budget, table, options.latency_max)


def recorded_profile(header: dict[str, Any], run_dir: Path) -> LatencyProfile | None:
    """Returns the profile in a header, or None. Raises `UserError` if it does not match its digest."""
    if header.get("latency") is None:  # the oldest records have no such key
        return None
    profile = validate(LatencyProfile, header["latency"]["profile"], f"{run_dir}: latency profile")
    if profile.digest != header["latency"]["digest"]:
        raise UserError(f"{run_dir} cannot be resumed: the latency profile in its records has changed")
    return profile
