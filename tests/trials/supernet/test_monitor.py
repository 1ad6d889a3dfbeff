"""What a supernet's training says of its speed."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from trials.supernet import monitor
from trials.supernet.monitor import LINE_SECONDS, Monitor


@pytest.mark.parametrize(
    ("speeds", "said"),
    [
        ([400, 380, 60, 50], ["note: 60 images/s now, and 400 before"]),
        ([50, 400, 390], []),  # it became faster
        ([400, 150, 400], []),
    ],
)
def test_a_training_that_becomes_slow_says_so_once(
    speeds: list[int], said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(monitor.time, "monotonic", lambda: now[0])
    counts = SimpleNamespace(steps=0, images=0, seconds=0.0, skipped=0)
    optimizer = SimpleNamespace(param_groups=[{"lr": 1.0}])
    state = SimpleNamespace(counts=counts, step=SimpleNamespace(optimizer=optimizer))
    watched = SimpleNamespace(num_images=10**9, scores=None)  # scoring would take too long
    console = Console(file=io.StringIO(), width=200)
    with Monitor(tmp_path, cast(Any, state), cast(Any, watched), 1_000, console) as watching:
        for speed in speeds:
            now[0] += LINE_SECONDS + 1
            counts.steps, counts.images, counts.seconds = counts.steps + 1, counts.images + 10 * speed, now[0] * 10 / 11
            watching.step_done(1.0)
    notes = [line for line in console.file.getvalue().splitlines() if line.startswith("note")]  # type: ignore[attr-defined]
    assert len(notes) == len(said)
    assert all(note.startswith(text) for note, text in zip(notes, said, strict=True))
