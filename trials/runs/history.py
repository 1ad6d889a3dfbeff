"""The history of a search: what its records say, event by event."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sret_nas.bounded_files import MissingFileError, read_lines
from sret_nas.errors import ConfigError, UserError
from sret_nas.json_files import MAX_BYTES, parse_json

from ..engines.jobs import SupernetSource
from ..strategies.strategy import Candidate
from .checksums import without_checksum
from .compute_budget import ComputeUsage
from .directory import RECORDS_FILE
from .events import (
    AskedEvent,
    EndedEvent,
    Event,
    FinalsEvent,
    HeaderEvent,
    InterruptedEvent,
    RecommendedEvent,
    ResumedEvent,
    SupernetEvent,
    parse_event,
)
from .recommendation import ORIGIN, Recommendations
from .run_kinds import instead
from .trial import Trial


@dataclass
class History:
    """The content of a records file: the header, and the trials by number."""

    header: dict[str, Any]
    trials: dict[int, Trial] = field(default_factory=dict)
    supernet: SupernetSource | None = None
    """The supernet that trials inherit from, once it is trained."""
    recommended: Recommendations | None = None
    """The networks that the search recommends, once it has chosen them."""
    usage: ComputeUsage = field(default_factory=ComputeUsage)
    was_interrupted: bool = False
    """Whether the last session ended by an interruption."""
    are_finals_open: bool = False
    """Whether finals began and did not come to their end; records of earlier versions do not say."""

    @property
    def in_order(self) -> list[Trial]:
        """The trials by number."""
        return [self.trials[number] for number in sorted(self.trials)]

    @property
    def num_ended(self) -> int:
        """How many trials have ended, without those that evaluate what is recommended."""
        return sum(trial.has_ended and trial.origin != ORIGIN for trial in self.trials.values())

    @property
    def failed_keys(self) -> set[tuple[str, str]]:
        """The keys of candidates whose trials failed, and of which no trial finished."""
        finished = {trial.key for trial in self.trials.values() if trial.result is not None}
        return {trial.key for trial in self.trials.values() if trial.failure is not None} - finished

    def apply(self, event: Event) -> None:
        """Applies one event.

        Raises `KeyError` for a trial that was never asked for, and `ValueError` for a header and a second `asked`.
        """
        match event:
            case HeaderEvent():
                raise ValueError("a second header")
            case InterruptedEvent():
                self.was_interrupted = True
            case ResumedEvent():
                self.was_interrupted = False
                self.header["options"] = event.options
                self.header["limits_cluster"] = event.limits_cluster
            case FinalsEvent():
                self.are_finals_open = True
            case EndedEvent():
                self.are_finals_open = False
            case SupernetEvent():
                self.supernet = event.source
            case RecommendedEvent():
                self.recommended = event.recommended
            case AskedEvent():
                if event.number in self.trials:
                    raise ValueError(f"trial {event.number} was asked for twice")
                candidate = Candidate(event.architecture, event.depth_schedule)
                self.trials[event.number] = Trial(event.number, candidate, event.origin)
            case _:
                self.trials[event.number].apply(event)
        self.usage.apply(event)


def refuse_file(run_dir: Path) -> None:
    """Raises `UserError` for a file where a run directory is meant."""
    if run_dir.is_file():
        raise UserError(f"{run_dir}: is a file: name the run directory, perhaps {run_dir.parent}")


def read_history(run_dir: Path) -> History:
    """Returns the history in a run directory, ignoring a torn last line.

    Raises `UserError` if it is missing or not valid.
    """
    refuse_file(run_dir)
    path = run_dir / RECORDS_FILE
    history: History | None = None
    is_checked = False
    try:
        for line_number, line in enumerate(read_lines(path, MAX_BYTES), start=1):
            source = f"{path}, line {line_number}"
            if line_number == 1 and (other := instead(run_dir, "search")):
                raise UserError(f"{run_dir} is no run directory of a search{other}")
            plain, is_checked = without_checksum(line, source, must_be_checked=is_checked)
            content = parse_json(plain, source)
            event = parse_event(content, source)
            if isinstance(event, HeaderEvent) != (history is None):
                raise ConfigError(source, "event", "not a record of this tool: the header must come first, and once")
            if history is None:
                history = History(content)
                history.usage.apply(event)
                continue
            try:
                history.apply(event)
            except KeyError as error:
                raise UserError(f"{source}: not a record of this tool: trial {error} was never asked for") from None
            except ValueError as error:
                raise UserError(f"{source}: not a record of this tool: {error}") from None
    except MissingFileError:
        raise UserError(
            f"{run_dir} is no run directory: there is no {path.name} in it{instead(run_dir, 'search')}"
        ) from None
    if history is None:
        raise UserError(f"{path} is empty: the search ended before it began; start a new one")
    return history
