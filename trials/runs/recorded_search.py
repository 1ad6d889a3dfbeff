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
from .directory import LOCK_FILE
from .events import check_header
from .history import History, read_history
from .options import SearchOptions


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
        return cls(run_dir, history, options, domain_of(space, options, recorded_profile(history.header, run_dir)))

    @property
    def is_running(self) -> bool:
        return is_running(self.run_dir)

    @property
    def state(self) -> str:
        """Returns `running`, `finished`, or how many of its trials have ended, e.g. `12 of 30 trials`.

        A search that has tried every candidate inside its budget has finished, however many trials it might have run.
        """
        if self.is_running:
            return "running"
        ended = self.history.num_ended
        if ended >= self.options.trials or self._all_were_tried():
            return "finished"
        return f"{ended} of {counted(self.options.trials, 'trial')}"

    def _all_were_tried(self) -> bool:
        tried = {trial.key for trial in self.history.in_order if trial.has_ended}
        return next(islice(self.domain, len(tried), None), None) is None


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
