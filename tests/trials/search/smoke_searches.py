"""Options of short searches on the smoke space, what they leave, and searches in a process of their own."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path
from typing import Any

from rich.console import Console

from cli import main
from tests.forked import Forked
from trials.runs.directory import RECORDS_FILE
from trials.runs.history import read_history
from trials.runs.option_groups import flag

OPTIONS: dict[str, Any] = {
    "no_supernet": True,  # searches with a supernet: test_supernet.py
    "space": "smoke",
    "target_classes": 1000,
    "target_channels": 3,
    "flops_budget": 100_000_000,
    "trials": 6,
    "seed": 5,
    "max_train_images": 64,
    "max_val_images": 100,
    "max_test_images": 100,
    "image_size": 24,
    "train_images": 128,
    "device": "cpu",
    "workers": 0,
    # NSGA-II learns from the third trial on, so that all replays replay what it learned
    "strategy": "nsga2",
    "lookahead": 2,
    "population": 2,
}
FLAGS = [
    "--no-supernet",
    *(f"{flag(name)}={value}" for name, value in OPTIONS.items() if name not in ("no_supernet", "workers")),
]


def quiet() -> Console:
    return Console(file=io.StringIO(), width=120)


def outcome_of(run_dir: Path) -> list[tuple[Any, ...]]:
    """Returns all that a search found, trial by trial, to the last bit."""
    trials = read_history(run_dir).trials
    return [
        (number, trial.candidate.key, trial.result and (trial.result.error, trial.result.cross_entropy), trial.test)
        for number, trial in sorted(trials.items())
    ]


def events(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / RECORDS_FILE).read_text().splitlines()]


def search_process(*arguments: str) -> Forked:
    return Forked(lambda: main(["search", *arguments]))


def wait_for_trials(process: Forked | subprocess.Popen[str], number: int) -> None:
    """Reads the plain progress lines until so many trials have ended."""
    assert process.stdout is not None
    seen = 0
    while seen < number:
        line = process.stdout.readline()
        assert line, "the search ended early"
        seen += line.startswith("trial ")
