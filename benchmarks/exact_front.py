"""What exact optima of additive scores take, and how near the bucketed answer comes to them.

    python -m benchmarks.exact_front

Random scores: an effect for every level of every attribute of a stage, also after each width of the stage before, and a
trend that lets bigger networks be better. Prints two tables and writes results/exact_front.json. One process for each
space, so that the peak of memory is its own; seconds are of processor time, medians over the scores.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import inf
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from sret_nas.files import write_atomically
from sret_nas.optimize.branch_and_bound import ProvenOptima
from sret_nas.optimize.dynamic_program import AdditiveScore, Bounds, CostBuckets, ParetoDP
from sret_nas.optimize.meet_in_the_middle import ChainHalves
from sret_nas.pareto import hypervolume, non_dominated
from sret_nas.space.chain import Chain, ChainStage, chain_of
from sret_nas.space.search_space import SearchSpace

RESULT = Path(__file__).parent / "results" / "exact_front.json"
SEED, NUM_SCORES = 0, 3
EFFECT, TREND = 0.02, (0.10, 0.05)
"""Standard deviation of an effect, and what a factor of e in FLOPs and in parameters is worth in score."""

WIDTHS = (0.05, 0.02, 0.01)
FREE: Bounds = [(0, inf), (0, inf)]
CASES: dict[str, dict[str, Bounds]] = {
    "sret_tiny": {"unbounded": FREE, "600 M FLOPs, 2.5 M parameters, +-2 %": [(588e6, 612e6), (2.45e6, 2.55e6)]},
    "sret_small": {"unbounded": FREE, "4 G FLOPs, 18 M parameters, +-2 %": [(3.92e9, 4.08e9), (17.64e6, 18.36e6)]},
}


def effects_of(stage: ChainStage, size: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Returns a term per choice: a sum of random effects of its levels."""
    effects = [
        rng.normal(0, size, number)[levels] for levels, number in zip(stage.levels.T, stage.num_levels, strict=True)
    ]
    return np.sum(effects, axis=0)  # type: ignore[no-any-return]


def trend(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return -TREND[0] * np.log(costs[:, 0]) - TREND[1] * np.log(costs[:, 1])


def random_score(chain: Chain, seed: int) -> AdditiveScore:
    rng = np.random.default_rng(seed)
    return AdditiveScore(
        stages=tuple(effects_of(stage, EFFECT, rng) for stage in chain.stages),
        pairs=tuple(
            np.stack([effects_of(after, EFFECT / 4, rng) for _ in before.states])
            for before, after in zip(chain.stages, chain.stages[1:], strict=False)
        ),
        trend=trend,
    )


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    answer = run()
    return time.process_time() - started, answer


def rows_of(chain: Chain, score: AdditiveScore, points: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.column_stack([chain.costs(points)[:, 0], score.of(chain, points)])


def gap(
    exact: npt.NDArray[np.float64], other: npt.NDArray[np.float64], most_flops: float
) -> tuple[float, float | None]:
    """Returns by how many per cent the hypervolume of log FLOPs and score is smaller, and the largest excess of the
    score.

    The reference is the most FLOPs allowed (of the exact front, where any are) and the exact front's largest score. The
    excess is that of each network of the other front over the best that has no more FLOPs; None if there is none.
    """
    last = most_flops if np.isfinite(most_flops) else exact[:, 0].max()
    reference = np.array([np.log(last), exact[:, 1].max()]) + 1e-9
    volumes = [hypervolume(np.column_stack([np.log(rows[:, 0]), rows[:, 1]]), reference) for rows in (exact, other)]
    other = other[non_dominated(other)]
    best_until = np.searchsorted(exact[:, 0], other[:, 0], side="right") - 1
    excess = other[:, 1] - exact[best_until, 1]
    return 100 * (1 - volumes[1] / volumes[0]), float(excess.max()) if len(excess) else None


def bucketed_answer(chain: Chain, score: AdditiveScore, bounds: Bounds, width: float) -> npt.NDArray[np.int64]:
    return ParetoDP(chain, bounds, CostBuckets((0,), (width,))).find(score)


def medians(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the median of each figure; None where a score has none."""
    return {
        key: None if any(row[key] is None for row in rows) else statistics.median(row[key] for row in rows)
        for key in rows[0]
    }


def figures_of(name: str, bounds: Bounds) -> dict[str, Any]:
    """Returns medians over the scores; the chain's halves are made beforehand, once for each cost that they may be fine
    in."""
    chain = chain_of(SearchSpace.load(name))
    optima = [ProvenOptima(chain) for _ in range(3)]
    exact, bucketed = [], {width: [] for width in WIDTHS}  # type: ignore[var-annotated]
    for seed in range(SEED, SEED + NUM_SCORES):
        score = random_score(chain, seed)
        for_best, for_front, for_three = optima
        if seed == SEED:
            for_best.best(score, bounds, 1)
            for_front.front(score, bounds, ("flops",))
            for_three.front(score, bounds, ("flops", "params"))
        best_seconds, _ = timed(partial(for_best.best, score, bounds, 100))
        front_seconds, points = timed(partial(for_front.front, score, bounds, ("flops",)))
        three_seconds, three = timed(partial(for_three.front, score, bounds, ("flops", "params")))
        front = rows_of(chain, score, points)
        exact.append({
            "best_100_seconds": best_seconds,
            "front_seconds": front_seconds, "front_networks": len(points),
            "front_of_three_seconds": three_seconds, "front_of_three_networks": len(three),
        })  # fmt: skip
        for width in WIDTHS:
            seconds, found = timed(partial(bucketed_answer, chain, score, bounds, width))
            volume_gap, score_gap = gap(front, rows_of(chain, score, found), bounds[0][1])
            figures: dict[str, float | None] = {"seconds": seconds, "networks": len(found)}
            figures |= {"hypervolume_gap_percent": volume_gap, "largest_score_gap": score_gap}
            bucketed[width].append(figures)
    return {**medians(exact), "bucketed": [{"width": width, **medians(rows)} for width, rows in bucketed.items()]}


def space_figures(name: str) -> dict[str, Any]:
    chain = chain_of(SearchSpace.load(name))
    halves_seconds, halves = timed(lambda: ChainHalves(chain, 0))
    return {
        "space": name,
        "networks": SearchSpace.load(name).num_networks,
        "ways": num_paths(halves),
        "halves_seconds": halves_seconds,
        "windows": [{"window": text, **figures_of(name, bounds)} for text, bounds in CASES[name].items()],
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def num_paths(halves: ChainHalves) -> int:
    return sum(half.num_paths for pair in halves.pairs for half in pair)


def show(spaces: list[dict[str, Any]]) -> None:
    exact = Table("space", "window", "halves, once", "best 100", "front", "front of three", "memory", title="exact")
    columns = ("space", "window", "width", "seconds", "hypervolume gap", "largest score gap")
    near = Table(*columns, title="bucketed")
    for space, window in ((each, window) for each in spaces for window in each["windows"]):
        exact.add_row(
            space["space"],
            window["window"],
            f"{space['halves_seconds']:.2f} s",
            f"{window['best_100_seconds']:.2f} s",
            f"{window['front_seconds']:.2f} s ({window['front_networks']:.0f})",
            f"{window['front_of_three_seconds']:.2f} s ({window['front_of_three_networks']:.0f})",
            f"{space['peak_gigabytes']:.2f} GB",
        )
        for row in window["bucketed"]:
            excess = "-" if row["largest_score_gap"] is None else f"{row['largest_score_gap']:.4f}"
            figures = f"{row['width']:.2f}", f"{row['seconds']:.2f}", f"{row['hypervolume_gap_percent']:.2f} %", excess
            near.add_row(space["space"], window["window"], *figures)
    Console(width=150).print(exact, near)


def main() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        spaces = list(pool.map(space_figures, CASES))
    settings = {"seed": SEED, "scores": NUM_SCORES, "effect": EFFECT, "trend": TREND}
    result = {**describe_machine("numpy"), **settings, "spaces": spaces}
    write_atomically(RESULT, json.dumps(result, indent=2) + "\n")
    show(spaces)


if __name__ == "__main__":
    main()
