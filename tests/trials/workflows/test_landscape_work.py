"""What the driver of a landscape does for each point beside handing it out."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.trials.runs.test_landscape_records import HEADER, RESULT
from trials.engines.inline import InlineEngine
from trials.engines.retries import AttemptResult
from trials.runs.landscape_options import LandscapeOptions
from trials.runs.landscape_records import GridPoint, LandscapeRecords, write_header
from trials.worker.entry import JobRunner
from trials.workflows.landscape import _points, _Work

POINTS = 9


class CountedWork(_Work):
    """Counts how often the work of a point is asked for."""

    asked = 0

    def _cost(self, point: GridPoint) -> float:
        self.asked += 1
        return super()._cost(point)


def test_the_time_left_costs_the_driver_as_little_with_many_points_as_with_few(tmp_path: Path) -> None:
    options = LandscapeOptions.parse({"points": POINTS, "pairs": 1, "surfaces": 1, "workers": 1}, "landscape")
    todo = list(_points(options, 2))
    assert len(todo) == 2 * POINTS**2
    write_header(tmp_path, HEADER)
    with LandscapeRecords(tmp_path) as records, InlineEngine(JobRunner()) as engine:
        work = CountedWork(records, options, engine, todo, Console(file=io.StringIO()))
        before, left = work.asked, []
        for job_id in reversed(range(len(todo))):  # points end in any order
            work._take_in(AttemptResult(job_id, RESULT.model_dump(mode="json"), None, 1.0, False))
            left.append(work._seconds_left)
    assert work.asked - before <= 3 * len(todo)
    assert left == pytest.approx([RESULT.seconds * number for number in reversed(range(len(todo)))])
