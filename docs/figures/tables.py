"""What all figures are made with: result files, and tables in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results"

Row = Sequence[str]


def load(name: str) -> Any:
    """Returns a result file as plain data."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(header: Row, rows: Iterable[Row]) -> str:
    """Returns a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def script(path: str) -> str:
    """Returns a link from docs/ to a benchmark."""
    return f"[{path}](../benchmarks/{path})"
