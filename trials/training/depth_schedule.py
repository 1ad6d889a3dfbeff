"""Mixed-depth schedules: how many recursions a training step runs.

Branches of different recursion depth share all weights but the late loops' NLLs; training several is an explicit deep
supervision (SReT paper, section 4; its public code has none of it, so the schedules are ours). A schedule changes what
training costs, never what inference costs.
"""

from __future__ import annotations

import random

from sret_nas.space.search_space import DepthSchedule

GROWN_BY = 2 / 3
"""Share of the steps after which `growing` has reached the full depth."""


def depths_of_step(
    schedule: DepthSchedule, max_recursions: int, progress: float, rng: random.Random
) -> tuple[int, ...]:
    """The recursion depths whose losses one step averages, deepest last.

    `progress` is the share of steps done, 0 <= progress < 1; `rng` is drawn from by `random` and `sandwich` alone.

    - `full`: the full depth only.
    - `joint`: every depth from 1 to the full one.
    - `sandwich`: the shallowest, one at random in between, and the deepest.
    - `random`: one depth, all equally likely.
    - `growing`: one depth, rising from 1 to the full one over the first two thirds of training.
    """
    deepest = max_recursions
    if schedule == "full" or deepest == 1:
        return (deepest,)
    if schedule == "joint":
        return tuple(range(1, deepest + 1))
    if schedule == "sandwich":
        between = (rng.randint(2, deepest - 1),) if deepest > 2 else ()
        return (1, *between, deepest)
    if schedule == "random":
        return (rng.randint(1, deepest),)
    return (min(deepest, 1 + int(progress / GROWN_BY * deepest)),)


def mean_depth_counts(schedule: DepthSchedule, max_recursions: int) -> dict[int, float]:
    """How often a step runs each depth, on average over a training run."""
    deepest = max_recursions
    if schedule == "full" or deepest == 1:
        return {deepest: 1.0}
    every = range(1, deepest + 1)
    if schedule == "joint":
        return dict.fromkeys(every, 1.0)
    if schedule == "sandwich":
        return {depth: 1.0 if depth in (1, deepest) else 1 / (deepest - 2) for depth in every}
    if schedule == "random":
        return dict.fromkeys(every, 1 / deepest)
    rising = GROWN_BY / deepest
    return {**dict.fromkeys(every, rising), deepest: 1 - (deepest - 1) * rising}
