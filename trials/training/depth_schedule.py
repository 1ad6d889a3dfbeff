"""Mixed-depth schedules: how many recursions a training step runs.

Networks of different recursion depth share all weights except the NLLs of the later recursions. Training several depths
is a form of deep supervision (SReT paper, section 4). The public code does not contain it, so these schedules are this
project's own. A schedule changes the cost of training, never that of inference.
"""

from __future__ import annotations

import random

from sret_nas.space.search_space import DepthSchedule

SEVERAL_DEPTHS: tuple[DepthSchedule, ...] = ("joint", "sandwich")
"""Schedules whose steps have several depths, of which the deepest can teach the others."""

GROWTH_SHARE = 2 / 3
"""Share of the steps in which `growing` rises to the full depth."""


def depths_of_step(
    schedule: DepthSchedule, max_recursions: int, progress: float, rng: random.Random
) -> tuple[int, ...]:
    """Returns the recursion depths whose losses one step averages, deepest last.

    Args:
        schedule: one of the schedules below.
        max_recursions: the full depth.
        progress: the share of steps done, 0 <= progress < 1.
        rng: used by `random` and `sandwich` only.

    Schedules:

    - `full`: the full depth only.
    - `joint`: every depth from 1 to the full one.
    - `sandwich`: the shallowest, one at random in between, and the deepest.
    - `random`: one depth, drawn uniformly.
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
    return (min(deepest, 1 + int(progress / GROWTH_SHARE * deepest)),)


def mean_depth_counts(schedule: DepthSchedule, max_recursions: int) -> dict[int, float]:
    """Returns the expected number of passes of one step at each depth, averaged over a training run."""
    deepest = max_recursions
    if schedule == "full" or deepest == 1:
        return {deepest: 1.0}
    depths = range(1, deepest + 1)
    if schedule == "joint":
        return dict.fromkeys(depths, 1.0)
    if schedule == "sandwich":
        return {depth: 1.0 if depth in (1, deepest) else 1 / (deepest - 2) for depth in depths}
    if schedule == "random":
        return dict.fromkeys(depths, 1 / deepest)
    rising = GROWTH_SHARE / deepest
    return {**dict.fromkeys(depths, rising), deepest: 1 - (deepest - 1) * rising}
