"""How fast the feasible set is counted and drawn from, how rarely plain draws would hit it, and how both grow.

    OMP_NUM_THREADS=1 python -m benchmarks.feasible

Prints tables and writes results/feasible.json and results/feasible.png, the picture of sret_tiny. Seconds are those of
one core that the process was given (CPU time), medians where a call is repeated. Every measured space has a process of
its own, whose peak memory is told with and without what Python and the imports take.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from sret_nas.arch.budget import Budget
from sret_nas.errors import BudgetError
from sret_nas.feasible.cost_table import MAX_PAIRS
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.files import write_atomically
from sret_nas.quantities import format_quantity
from sret_nas.space.search_space import SearchSpace
from trials.report.cost_picture import write_region_picture

RESULT = Path(__file__).parent / "results" / "feasible.json"
PICTURE = RESULT.with_suffix(".png")
SEED, REPEATS, DRAWS, MANY = 0, 3, 200, 1_000_000

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
    """Returns the median CPU time of some calls."""
    timings = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        timings.append(time.process_time() - started)
    return statistics.median(timings)


def seconds_unless_too_coarse(run: Callable[[], object]) -> float | None:
    """Returns the CPU time of a call; None where the table is so coarse that draws from a narrow window are refused."""
    try:
        return seconds_of(run, 1)
    except BudgetError:
        return None


def memory_mb() -> float:
    """Returns the most memory that this process has held, in units of 10**6 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def apart(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Returns what a function says in a fresh process, so that memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def count_from_scratch(space: dict[str, Any], budget: Budget) -> int:
    """Measures tables and count of a space that nothing is known of yet."""
    return FeasibleSet(SearchSpace.from_dict(space), budget).count


def strata_from_scratch(space: dict[str, Any], budget: Budget) -> StratifiedSampler:
    return StratifiedSampler(SearchSpace.from_dict(space), budget)


def case_of(name: str, budget: Budget) -> dict[str, Any]:
    before, space = memory_mb(), SearchSpace.load(name)
    data = space.to_dict()
    count_seconds = seconds_of(lambda: count_from_scratch(data, budget), REPEATS)
    count_memory = memory_mb()
    members, rng = FeasibleSet(space, budget), np.random.default_rng(SEED)
    count = members.count
    members.sample(rng)
    return {
        "networks": space.num_networks,
        "inside": count,
        "is_exact": members.count_is_exact,
        "share": count / space.num_networks,
        "plain_draws_per_hit": space.num_networks / count,
        "count_seconds": count_seconds,
        "count_peak_memory_mb": count_memory,
        "memory_before_mb": before,
        "draw_ms": 1000 * seconds_of(lambda: [members.sample(rng) for _ in range(DRAWS)], REPEATS) / DRAWS,
        "draw_in_many_ms": 1000 * seconds_of(lambda: members.sample_many(rng, DRAWS), REPEATS) / DRAWS,
        "million_choices_seconds": seconds_of(lambda: members.sample_choices(rng, MANY), 1),
        "million_choices_peak_memory_mb": memory_mb(),
        "strata_seconds": seconds_of(lambda: strata_from_scratch(data, budget), 1),
    }


def deeper(num_stages: int) -> dict[str, Any]:
    """Returns sret_tiny's first stages, continued beyond its three by stages of twice and four times the last one's
    widths."""
    data = SearchSpace.load("sret_tiny").to_dict()
    stages = list(data["stages"])
    last = stages[-1]
    stages += [last | {"width": [factor * width for width in last["width"]]} for factor in (2, 4)]
    return data | {"stages": stages[:num_stages], "name": f"{num_stages} stages"}


def richer(num_ratios: int) -> dict[str, Any]:
    """Returns sret_tiny with so many MLP ratios, from 2 on: each gives a stage other costs."""
    data = SearchSpace.load("sret_tiny").to_dict()
    ratios = [2 + 2 * number / max(1, num_ratios - 1) for number in range(num_ratios)]
    stages = [stage | {"mlp_ratio": ratios} for stage in data["stages"]]
    return data | {"stages": stages, "name": f"{num_ratios} MLP ratios"}


def growth_of(data: dict[str, Any], max_pairs: int) -> dict[str, Any]:
    """Measures a window of +-2 % in both costs around the geometric middle of the ends: counting
    it, and drawing from it."""
    before, space = memory_mb(), SearchSpace.from_dict(data)
    ends = FeasibleSet(space, Budget())
    least, most = ends.cheapest(), ends.most_expensive()
    flops, params = ((getattr(least, cost) * getattr(most, cost)) ** 0.5 for cost in ("flops", "params"))
    window = Budget(
        flops_min=round(0.98 * flops), flops_max=round(1.02 * flops),
        params_min=round(0.98 * params), params_max=round(1.02 * params),
    )  # fmt: skip
    members, rng = FeasibleSet(space, window, max_pairs=max_pairs), np.random.default_rng(SEED)
    count_seconds = seconds_of(lambda: members.count, 1)
    count_memory = memory_mb()
    members.check()
    return {
        "space": space.name,
        "max_pairs": max_pairs,
        "choices_per_stage": [len(table) for table in space.stage_tables],
        "networks": space.num_networks,
        "window": window.describe(),
        "is_exact": members.count_is_exact,
        "share": members.share,
        "count_seconds": count_seconds,
        "count_peak_memory_mb": count_memory,
        "memory_before_mb": before,
        "draws_10000_seconds": seconds_unless_too_coarse(lambda: members.sample_choices(rng, 10_000)),
        "peak_memory_mb": memory_mb(),
    }


GROWTH = (
    *((deeper(number), MAX_PAIRS) for number in (2, 3, 4, 5)),
    *((richer(number), MAX_PAIRS) for number in (2, 8)),
    *((deeper(4), MAX_PAIRS // factor) for factor in (1000, 100, 10)),
)


def main() -> None:
    cases = [{"space": name, "budget": text, **apart(case_of, name, budget)} for name, text, budget in CASES]
    print(f"{len(cases)} cases measured; now how it grows", flush=True)
    growth = [apart(growth_of, data, max_pairs) for data, max_pairs in GROWTH]
    result = {
        **describe_machine("numpy"), "seed": SEED, "draws": DRAWS, "seconds": "CPU time of one core",
        "cases": cases, "growth": growth,
    }  # fmt: skip
    write_atomically(RESULT, json.dumps(result, indent=2) + "\n")
    write_region_picture(PICTURE, FeasibleSet(SearchSpace.load("sret_tiny"), CASES[0][2]))
    show(cases, growth)


def show(cases: list[dict[str, Any]], growth: list[dict[str, Any]]) -> None:
    table = Table("space", "budget", "networks inside", "share", "count", "memory", "one draw", "a million", "strata")
    for row in cases:
        table.add_row(
            row["space"], row["budget"], f"{row['inside']:,}", f"{row['share']:.3%}", f"{row['count_seconds']:.2f} s",
            f"{row['count_peak_memory_mb']:.0f} MB", f"{row['draw_ms']:.2f} ms",
            f"{row['million_choices_seconds']:.1f} s", f"{row['strata_seconds']:.2f} s",
        )  # fmt: skip
    Console(width=140).print(table)
    table = Table("space", "pairs", "networks", "exact", "share", "count", "memory", "10,000 draws")
    for row in growth:
        table.add_row(
            row["space"], format_quantity(row["max_pairs"]), f"{row['networks']:.3g}", str(row["is_exact"]),
            f"{row['share']:.2g}", f"{row['count_seconds']:.2f} s", f"{row['count_peak_memory_mb']:.0f} MB",
            "refused" if row["draws_10000_seconds"] is None else f"{row['draws_10000_seconds']:.2f} s",
        )  # fmt: skip
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
