"""How long one training pass of a network takes: measured on a sample, fitted, and added up over what a step trains.

Variants of a supernet's training are given as many images as fill the same time. Timing each by itself would be fair
only on an idle machine; one fit serves all.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.ranking.metrics import FloatArray
from benchmarks.ranking.setting import BUDGET, SPACE
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.files import write_atomically
from trials.data import PreparedData, training_batches
from trials.supernet.config import SupernetConfig

TIMED_NETWORKS = 48
ROUNDS = 4
DRAWN_STEPS = 1_000


@dataclass(frozen=True)
class PassTimes:
    """Seconds of one core that a pass forward and back through the supernet takes on a batch of a given size."""

    batch_size: int
    weights: tuple[float, ...]
    """Of the features of a network; see `_features`."""
    step: float
    """Seconds of what a step does once: reading and augmenting its batch, and updating the weights."""
    r2: float
    """Share of the variance of the logarithms of the timed passes that the fit explains."""

    def seconds(self, arch: ArchConfig) -> float:
        return float(np.dot(_features(arch), self.weights))

    def images(self, config: SupernetConfig, seconds: float, budget: Budget = BUDGET, teaching: float = 0) -> int:
        """Returns images of a training, of the networks inside a budget, that takes so many seconds.

        `teaching` are those that a teacher adds to a step.
        """
        from trials.supernet.networks import StepNetworks

        drawn = StepNetworks(SPACE, budget, config, lambda arch: arch, seed=0)
        steps = [drawn.of_step(step, DRAWN_STEPS) for step in range(DRAWN_STEPS)]
        mean = self.step + teaching + sum(self.seconds(arch) for step in steps for arch in step) / DRAWN_STEPS
        return round(seconds / mean) * self.batch_size


def read_pass_times(path: Path) -> PassTimes:
    found = json.loads(path.read_text(encoding="utf-8"))
    return PassTimes(**{**found, "weights": tuple(found["weights"])})


def pass_times(path: Path, data: PreparedData, batch_size: int) -> PassTimes:
    """Returns those in a file, or measured now and left there."""
    if path.exists():
        return read_pass_times(path)
    archs = StratifiedSampler(SPACE, BUDGET).sample_many(np.random.default_rng(1), TIMED_NETWORKS)
    times, step = _measured(archs, data, batch_size)
    features = np.array([_features(arch) for arch in archs])
    # Relative errors count: a slow moment of the machine must not be worth more on a large network.
    weights = np.linalg.lstsq(features / times[:, None], np.ones(len(times)), rcond=None)[0]
    left = np.log(features @ weights / times)
    r2 = float(1 - left.var() / np.log(times).var())
    fit = PassTimes(batch_size, tuple(weights.tolist()), step, r2)
    write_atomically(path, json.dumps(vars(fit)) + "\n")
    return fit


def _features(arch: ArchConfig) -> list[float]:
    """Returns a constant, FLOPs, block applications, and the numbers that these write."""
    stages = list(zip(arch.stages, arch.num_tokens, strict=True))
    applications = sum(stage.blocks * stage.recursions for stage, _ in stages)
    written = sum(stage.blocks * stage.recursions * stage.width * tokens for stage, tokens in stages)
    return [1.0, cost_of(arch).flops / 1e6, applications, written / 1e4]


def _measured(archs: list[ArchConfig], data: PreparedData, batch_size: int) -> tuple[FloatArray, float]:
    """Returns the least CPU seconds of a pass of each network, over rounds through all of them, and
    of the rest of a step."""
    import torch
    from torch.nn.functional import cross_entropy

    from sret_nas.nn.supernet import Supernet
    from sret_nas.space.supernet_shape import bounding_shape

    torch.set_num_threads(1)
    supernet = Supernet(bounding_shape(SPACE)).train()
    optimizer = torch.optim.AdamW(supernet.parameters(), lr=1e-4, fused=True)
    stream = training_batches(data.train, batch_size=batch_size)
    passes = np.full((ROUNDS, len(archs)), np.inf)
    rests = []
    for turn in range(ROUNDS):
        for at, arch in enumerate(archs):
            began = time.process_time()
            images, labels = next(stream)
            read = time.process_time()
            cross_entropy(supernet(images, arch), labels).backward()  # type: ignore[no-untyped-call]
            passed = time.process_time()
            optimizer.step()
            passes[turn, at] = passed - read
            rests.append(time.process_time() - passed + read - began)
    return passes[1:].min(axis=0), float(np.median(rests))  # the first round builds the networks
