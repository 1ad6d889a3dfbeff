"""Lines of results: appended as tasks end, and read without the header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.recorded import begin, header_of, read_lines, run_all


def squared(seed: int) -> dict[str, Any]:
    return {"seed": seed, "square": seed**2}


def test_every_task_leaves_a_line_after_the_header(tmp_path: Path) -> None:
    path = tmp_path / "results" / "lines.jsonl"
    assert read_lines(path) == []
    begin(path, {"cpu": "x"})
    run_all(path, [(squared, (seed,)) for seed in (3, 4)], workers=2)
    begin(path, {"cpu": "another"})
    run_all(path, [(squared, (5,))], workers=1)
    assert header_of(path) == {"cpu": "x"}
    lines = read_lines(path)
    assert lines[-1] == {"seed": 5, "square": 25}
    assert {line["seed"]: line["square"] for line in lines} == {3: 9, 4: 16, 5: 25}
