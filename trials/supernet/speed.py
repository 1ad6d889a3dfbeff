"""Estimates the duration of a training from a few steps on weights that are discarded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np
import torch

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of

from .training import SupernetTraining

MEASURED_STEPS = 13
"""Steps that are timed. The first is for warm-up and does not count; the rest is a multiple of `TURNS`."""

EXPECTED_FROM = 256
"""Steps, spread evenly over a training, over whose networks the expected duration is averaged."""

TRAINING_SHARE = 0.9
"""Share of a time budget for steps. The rest is for scoring subnets, checkpoints and the end of the training."""


def seconds_per_step(training: SupernetTraining, clock: Callable[[], float] = time.perf_counter) -> float:
    """Returns the expected duration of a step, the same in all processes.

    Runs all steps of `training`, which must be a short one made for this purpose. A few steps see only a few networks,
    so a linear model (seconds per pass, seconds per FLOP; non-negative least squares) is fitted to them, and averaged
    over the networks of `EXPECTED_FROM` steps.
    """
    from scipy.optimize import nnls  # a third of a second, which processes that time nothing need not wait

    stream = training.batches(0)
    seconds = []
    for _ in range(training.steps):
        started = clock()
        training.train_step(*next(stream))
        seconds.append(clock() - started)
    work = np.array([_work(training.networks.of_step(step, training.steps)) for step in range(training.steps)])
    coefficients, _ = nnls(work[1:], np.array(seconds[1:]))
    expected_work = [_work(training.networks.of_step(step, EXPECTED_FROM)) for step in range(EXPECTED_FROM)]
    expected = torch.tensor(float(np.mean(np.array(expected_work) @ coefficients)))
    training.processes.average([expected])
    return float(expected)


def steps_within(seconds: float, per_step: float) -> int:
    """Returns the number of steps that fit into a time budget, at least one."""
    return max(1, int(TRAINING_SHARE * seconds / per_step))


def _work(networks: Iterable[ArchConfig]) -> tuple[int, float]:
    """Returns the number of passes of a step and their total GFLOPs per image."""
    flops = [cost_of(arch).flops for arch in networks]
    return len(flops), sum(flops) / 1e9
