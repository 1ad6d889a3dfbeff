"""How much size gains after short and after longer trainings: slopes of error over log FLOPs, from committed tables.

Run `python -m benchmarks.size_slope` from the repository's root. It trains nothing: it reads the networks that
`benchmarks.recursion` and `benchmarks.ranking` trained from scratch on CIFAR-10, on 20,000 and on 120,000 images, and
writes `benchmarks/results/size_slope.json`. The two tables differ in more than the length: the inputs have 40 and 24
pixels, and the networks cost other FLOPs. So the slopes say that a short proxy shows less of what size gains, not how
much less.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from sret_nas.files import write_atomically

RESULTS = Path(__file__).parent / "results"
TABLES = ("recursion_table", "ranking_standalone")
DRAWS = 2_000
"""Bootstrap samples of networks behind an interval."""


def main() -> None:
    rows = [slope_of(name) for name in TABLES]
    content = {**describe_machine("numpy"), "seed": 0, "tables": rows}
    write_atomically(RESULTS / "size_slope.json", json.dumps(content, indent=1) + "\n")
    table = Table("table", "images", "trainings", "points per doubling of FLOPs", "95 % interval")
    for row in rows:
        low, high = row["interval"]
        cells = row["table"], f"{row['images']:,}", str(row["trainings"]), f"{row['points_per_doubling']:.2f}"
        table.add_row(*cells, f"{low:.2f} to {high:.2f}")
    Console().print(table)


def slope_of(name: str) -> dict[str, Any]:
    """Returns the slope of error over log2 of FLOPs by least squares, with a bootstrap interval over networks."""
    about, *lines = (json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text().splitlines())
    logs = np.array([np.log2(line["flops"]) for line in lines])
    errors = np.array([100 * line["error"] for line in lines])
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(logs), size=len(logs)) for _ in range(DRAWS))
    slopes = [float(np.polyfit(logs[chosen], errors[chosen], 1)[0]) for chosen in drawn]
    return {
        "table": name,
        "images": about["proxy"]["training"]["images"],
        "image_size": about["proxy"]["image_size"],
        "trainings": len(lines),
        "points_per_doubling": round(float(np.polyfit(logs, errors, 1)[0]), 3),
        "interval": [round(float(bound), 3) for bound in np.quantile(slopes, [0.025, 0.975])],
    }


if __name__ == "__main__":
    main()
