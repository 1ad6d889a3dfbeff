"""How fast a cost is known: the closed form of one architecture and of many at once, against an fvcore trace.

Run `python -m benchmarks.cost` from the repository's root; it prints a table and writes `benchmarks/results/cost.json`.
One thread; medians of repeated timings.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.bulk_cost import bulk_cost
from benchmarks.machine import describe_machine
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import StageColumns, cost_of
from sret_nas.arch.presets import preset
from sret_nas.files import write_atomically
from sret_nas.nn.flops import fvcore_cost
from sret_nas.nn.network import SReT

RESULT = Path(__file__).parent / "results" / "cost.json"
SEED = 0
PRESET = "sret_t"
BULK_SIZES = (100_000, 1_000_000)


def main() -> None:
    torch.set_num_threads(1)
    arch = preset(PRESET)
    network = SReT(arch)
    if fvcore_cost(network).flops != cost_of(arch).flops:
        raise SystemExit("the closed form does not equal the trace: timing it would mean nothing")
    figures = {
        "closed_form_s": _closed_form_seconds(arch),
        "fvcore_trace_s": _median_seconds(lambda: fvcore_cost(network), repeats=15),
        "fvcore_build_and_trace_s": _median_seconds(lambda: fvcore_cost(arch), repeats=15),
        "bulk": [_bulk_figures(arch, count) for count in BULK_SIZES],
    }
    write_atomically(RESULT, json.dumps({**_provenance(), **figures}, indent=2) + "\n")
    _show(figures)


def _median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Returns the median over `repeats` timed calls, after one untimed."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _closed_form_seconds(arch: ArchConfig, calls: int = 1000) -> float:
    """Returns the seconds per architecture, of FLOPs and parameters together; timed in bundles, because one call is
    near the clock's grain."""

    def cost_many_times() -> None:
        for _ in range(calls):
            cost = cost_of(arch)
            _ = cost.flops, cost.params

    return _median_seconds(cost_many_times, repeats=15) / calls


def _bulk_figures(arch: ArchConfig, count: int) -> dict[str, Any]:
    stages = _random_columns(arch, count, np.random.default_rng(SEED))
    seconds = _median_seconds(
        lambda: bulk_cost(stages, arch.stem, arch.image_size, arch.channels, arch.classes), repeats=7
    )
    return {"architectures": count, "seconds": seconds, "architectures_per_s": count / seconds}


def _random_columns(arch: ArchConfig, count: int, rng: np.random.Generator) -> list[StageColumns]:
    """Returns random stages around those of an architecture: every column varies, as in a search."""
    columns = []
    for stage in arch.stages:
        width = stage.heads * 8 * rng.integers(2, 6, count)
        recursions = rng.integers(1, 4, count)
        columns.append(
            StageColumns(
                width=width,
                blocks=rng.integers(1, stage.blocks + 2, count),
                recursions=recursions,
                groups=rng.choice([1, 2, 4, 7, 8, 16], (count, 3)),
                mlp_hidden=width * rng.integers(2, 5, count),
                num_nlls=recursions - rng.integers(0, 2, count),
                nll_hidden=width * rng.integers(1, 3, count),
            )
        )
    return columns


def _provenance() -> dict[str, Any]:
    return {"preset": PRESET, "seed": SEED, "threads": 1, **describe_machine("numpy", "torch", "fvcore")}


def _show(figures: dict[str, Any]) -> None:
    closed, trace = figures["closed_form_s"], figures["fvcore_trace_s"]
    built = figures["fvcore_build_and_trace_s"]
    table = Table(title=f"cost of one architecture, around {PRESET}, one thread", title_justify="left")
    for heading in ("how", "time for one", "architectures/s", "against a trace"):
        table.add_column(heading, justify="left" if heading == "how" else "right")
    rows = [("fvcore: build and trace", built), ("fvcore: trace", trace), ("closed form", closed)]
    rows += [(f"{bulk['architectures']:,} at once", 1 / bulk["architectures_per_s"]) for bulk in figures["bulk"]]
    for how, seconds in rows:
        table.add_row(how, f"{1e6 * seconds:,.2f} us", f"{1 / seconds:,.0f}", f"{trace / seconds:,.1f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
