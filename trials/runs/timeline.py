"""When things happened in a search, read off its records without building trials: quick enough for a live report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sret_nas.bounded_files import read_lines
from sret_nas.json_files import MAX_BYTES

from .directory import RECORDS_FILE


@dataclass
class Timeline:
    """Seconds of work by kind, and the second at which each trial ended."""

    began: float = 0.0
    """Seconds since the epoch."""
    ended: dict[int, float] = field(default_factory=dict)
    """Seconds of searching until a trial finished, by its number. Breaks between sessions do not count."""
    wall_seconds: float = 0.0
    """Seconds of searching until the last event."""
    work: dict[str, float] = field(default_factory=dict)
    """Seconds of workers by kind of work; several may work at once."""


_WORK = {"supernet": "training the supernet", "finished": "trials", "failed": "failed trials", "rung": "trials",
         "retried": "failed attempts"}  # fmt: skip


def read_timeline(run_dir: Path) -> Timeline:
    """Returns the timeline of a search. Raises `UserError` if the records cannot be read."""
    timeline = Timeline()
    session_began = before = 0.0
    for line in read_lines(run_dir / RECORDS_FILE, MAX_BYTES):
        event = json.loads(line)
        now, kind = float(event["time"]), event["event"]
        if kind == "header":
            timeline.began = session_began = now
        elif kind == "resumed":
            before, session_began = timeline.wall_seconds, now
        timeline.wall_seconds = before + max(0.0, now - session_began)
        if kind == "finished":
            timeline.ended[int(event["number"])] = timeline.wall_seconds
        seconds = _seconds_of(event)
        if seconds:
            name = _name_of(event)
            timeline.work[name] = timeline.work.get(name, 0.0) + seconds
    return timeline


def _seconds_of(event: dict[str, Any]) -> float:
    if event["event"] == "final":
        return float(event["result"]["seconds"])
    return float(event.get("seconds") or 0.0)


def _name_of(event: dict[str, Any]) -> str:
    if event["event"] != "final":
        return _WORK.get(event["event"], "other")
    return "controls" if event["role"] in ("control", "rival", "from scratch") else "fine-tuning"
