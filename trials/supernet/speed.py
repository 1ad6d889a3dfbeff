"""What a training will take, from a few steps on weights that are thrown away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from scipy.optimize import nnls

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of

from .training import SupernetTraining

MEASURED_STEPS = 13
"""The first warms up and does not count. A multiple of the turns of `alternate` remains."""

EXPECTED_FROM = 256
"""Steps, spread over a training, whose mean is what a step is expected to take."""

TRAINING_SHARE = 0.9
"""Of a time budget, for steps; the rest is for scoring subnets meanwhile, checkpoints and the end."""


def seconds_per_step(training: SupernetTraining, clock: Callable[[], float] = time.perf_counter) -> float:
    """The expected duration of a step, by `MEASURED_STEPS` steps of a training made for them, which is then used up.

    Few steps see few networks, so time is taken as so much per pass and so much per FLOP, fitted to the steps that were
    measured, and then expected of the networks that many steps would draw. All processes get the same answer.
    """
    stream = training.batches(0)
    seconds = []
    for _ in range(training.steps):
        started = clock()
        training.train_step(*next(stream))
        seconds.append(clock() - started)
    work = np.array([_work(training.networks.of_step(step, training.steps)) for step in range(training.steps)])
    per_work, _ = nnls(work[1:], np.array(seconds[1:]))
    every = [_work(training.networks.of_step(step, EXPECTED_FROM)) for step in range(EXPECTED_FROM)]
    expected = torch.tensor(float(np.mean(np.array(every) @ per_work)))
    training.processes.average([expected])
    return float(expected)


def steps_within(seconds: float, per_step: float) -> int:
    """How many steps fit into a time budget, at least one."""
    return max(1, int(TRAINING_SHARE * seconds / per_step))


def _work(networks: Iterable[ArchConfig]) -> tuple[int, float]:
    """Passes and their GFLOPs an image."""
    flops = [cost_of(arch).flops for arch in networks]
    return len(flops), sum(flops) / 1e9
