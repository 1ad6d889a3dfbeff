"""How fast the feasible set is counted and drawn from, and how rarely plain draws would hit it.

    python benchmarks/feasible.py

Prints a table and writes results/feasible.json. One process; seconds are medians.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from machine import describe_machine
from sret_nas.budget import Budget
from sret_nas.choice_costs import choice_costs_of
from sret_nas.cost_table import cost_table_of
from sret_nas.feasible import FeasibleSet
from sret_nas.files import write_atomically
from sret_nas.space import SearchSpace
from sret_nas.stage_table import stage_table_of

RESULT = Path(__file__).parent / "results" / "feasible.json"
SEED, REPEATS, DRAWS = 0, 5, 2000

CASES = (
    ("sret_tiny", "at most 1 G FLOPs", Budget(flops_max=10**9)),
    ("sret_tiny", "at most 600 M FLOPs, 3 M parameters", Budget(flops_max=600_000_000, params_max=3_000_000)),
    ("sret_tiny", "SReT-T +-2 %", Budget(
        flops_min=1_099_232_477, flops_max=1_144_099_107, params_min=4_660_860, params_max=4_851_098)),
    ("sret_tiny", "600 M FLOPs, 2.5 M parameters +-2 %", Budget(
        flops_min=588_000_000, flops_max=612_000_000, params_min=2_450_000, params_max=2_550_000)),
    ("sret_small", "at most 4.2 G FLOPs", Budget(flops_max=4_200_000_000)),
)  # fmt: skip


def seconds_of(run: Callable[[], object], repeats: int) -> float:
    """The median of some timed calls."""
    timings = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        timings.append(time.perf_counter() - started)
    return statistics.median(timings)


def count_from_scratch(space: dict[str, Any], budget: Budget) -> int:
    """Tables and count of a space that nothing is known of yet."""
    stage_table_of.cache_clear()
    choice_costs_of.cache_clear()
    cost_table_of.cache_clear()
    return FeasibleSet(SearchSpace.from_dict(space), budget).count


def figures_of(name: str, budget: Budget) -> dict[str, Any]:
    space = SearchSpace.load(name)
    members, rng = FeasibleSet(space, budget), np.random.default_rng(SEED)
    count = members.count
    return {
        "networks": space.num_networks,
        "inside": count,
        "is_exact": members.count_is_exact,
        "share": count / space.num_networks,
        "count_seconds": seconds_of(lambda: count_from_scratch(space.to_dict(), budget), REPEATS),
        "draw_ms": 1000 * seconds_of(lambda: members.sample_many(rng, DRAWS), 3) / DRAWS,
    }


def main() -> None:
    rows = [{"space": name, "budget": text, **figures_of(name, budget)} for name, text, budget in CASES]
    result = {**describe_machine("numpy"), "seed": SEED, "draws": DRAWS, "cases": rows}
    write_atomically(RESULT, json.dumps(result, indent=2) + "\n")
    table = Table("space", "budget", "networks inside", "share", "count", "one draw")
    for row in rows:
        cells = (
            f"{row['inside']:,}",
            f"{row['share']:.3%}",
            f"{row['count_seconds']:.2f} s",
            f"{row['draw_ms']:.2f} ms",
        )
        table.add_row(row["space"], row["budget"], *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
