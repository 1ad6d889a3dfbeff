"""What a fault's row says: what was done, and what became of the search."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.faults.searches import Ended, Search

RECOMMENDED = "recommended trial"
"""A job whose fault happens to a network that the search recommends, and that no trial had tried before."""


@dataclass(frozen=True)
class Row:
    """What was done, and what became of it."""

    done: str
    search: str
    recorded: str
    went_on: bool
    """The search went on, or was carried on, to its end."""
    same_front: bool | None
    """None where the fault costs a trial, so that the front may differ."""
    as_promised: bool
    """Everything that users may rely on in this case."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def describe_victim(job: str, number: int, times: int) -> str:
    before = {"trial": "", RECOMMENDED: "recommended ", "final": "a final of "}
    return f"{before[job]}trial {number}, {'once' if times == 1 else f'{times} times'}"


def describe_attempts(causes: list[str], survives: bool) -> str:
    attempts = ", ".join(f"{number}. {cause}" for number, cause in enumerate(causes, start=1))
    return f"attempts: {attempts}{f', {len(causes) + 1}. finished' if survives else ''}"


def said_of_trial(found: Ended, number: int) -> str:
    lines = [line for line in found.output.splitlines() if line.startswith(f"trial {number}, ") and "failed" in line]
    return f"said: {'; '.join(lines)}"


def describe_records(search: Search) -> str:
    """Returns how far a search had come."""
    if not search.events("header"):
        return "nothing on record"
    supernet = "the supernet, " if search.events("supernet") else ""
    finals = len(search.events("final", "tested"))
    return f"{supernet}{sum(search.finished().values())} trials and {finals} finals on record"


def describe_trials(search: Search) -> str:
    finished = search.finished()
    twice = sum(count > 1 for count in finished.values())
    return f"{len(finished)} trials finished, {twice} of them twice"


def said_last(found: Ended, search: Search) -> str:
    """Returns what was said in the end, without the folders, processes and name of this machine."""
    text = found.last_line.replace(f"{search.run_dir.parent}/", "")
    text = re.sub(r"process \d+ on [^)]+", "process N on HOST", text)
    return re.sub(r"\d+\.\d+\.\d+\.\d+", "HOST", text)


def quoted(command: list[str]) -> str:
    return " ".join(f"'{word}'" for word in command)
