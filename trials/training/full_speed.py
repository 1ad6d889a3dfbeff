"""Estimates the duration of a whole training from a few steps on weights that are discarded."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.space.search_space import DepthSchedule

from ..data.whole_images import WholeImages
from .depth_schedule import mean_depth_counts
from .distillation import Distillation
from .full import FullTraining
from .full_recipe import Recipe
from .full_spec import FullSpec, Group
from .image_batches import EvaluatedImages, evaluation_batches
from .network_scores import count_scores

PROBE_IMAGES = 32
"""Images of the first step of each process that is timed."""

MEASURED_STEPS = 4
"""Steps of the full size that are timed after one for warm-up."""

MAX_MEASURING_SECONDS = 10.0
"""Expected duration of those steps beyond which the probe alone decides."""


def expected_seconds_per_step(
    spec: FullSpec, images: WholeImages, group: Group, distillation: Distillation | None = None
) -> float:
    """Returns the expected duration of a step, with its share of validation and test; the same in all processes.

    Steps at full depth are timed, and scaled by the FLOPs of the depths that the schedule runs on average. A teacher's
    pass is the same at every depth, so with one the duration of uneven schedules is a bound.
    """
    seconds, compiling = _seconds_of_step(spec, images, group, distillation)
    seconds *= relative_cost(spec.arch, spec.schedule)
    training = FullTraining(Path(), spec, images, group, None)
    recipe = spec.recipe
    evaluated = num_evaluated(recipe, images)
    # Each depth is compiled once, before its first step.
    seconds += compiling * len(mean_depth_counts(spec.schedule, spec.arch.max_recursions)) / training.steps
    seconds += _seconds_per_evaluated(training, spec, images) * evaluated / group.world_size / training.steps
    total = torch.tensor(seconds, dtype=torch.float64, device=group.device)
    group.average([total])
    return float(total)


def num_evaluated(recipe: Recipe, images: WholeImages) -> int:
    """Returns how many images are read for validations, the statistics before each, and the test."""
    validations = max(1, -(-recipe.epochs // recipe.validate_every))
    return validations * (len(images.val) + min(recipe.recalibration_images, len(images.train))) + len(images.test)


def relative_cost(arch: ArchConfig, schedule: DepthSchedule) -> float:
    """Returns the FLOPs of a step of a schedule, averaged over a training, over those of one pass at full depth."""
    full = cost_of(arch).flops
    counts = mean_depth_counts(schedule, arch.max_recursions)
    return sum(count * cost_of(arch.with_max_recursions(depth)).flops / full for depth, count in counts.items())


def probe_batch_size(recipe: Recipe, world_size: int) -> int:
    """Returns the images of the first step that is timed, which all processes share in equal parts, even if mixed."""
    parts, pairs = recipe.gradient_accumulation * world_size, 2 if recipe.mixes else 1
    return min(recipe.batch_size, max(PROBE_IMAGES // parts // pairs * pairs, 2) * parts)


def _seconds_of_step(
    spec: FullSpec, images: WholeImages, group: Group, distillation: Distillation | None
) -> tuple[float, float]:
    """Returns the duration of a step at full depth, with its images being read, and of compiling it, if it is."""
    recipe = spec.recipe
    small = probe_batch_size(recipe, group.world_size)
    full_depth = replace(spec, schedule="full")
    probe = replace(full_depth, recipe=recipe.model_copy(update={"batch_size": small}))
    training = FullTraining(Path(), probe, images, group, None, distillation)
    probed, compiling = _time_steps(training, 1)
    seconds = probed / training.plan.batch_size
    if not recipe.compile:
        compiling = 0.0
    training = FullTraining(Path(), full_depth, images, group, None, distillation)
    size = training.plan.batch_size
    expected = torch.tensor(seconds * size, dtype=torch.float64, device=group.device)
    group.average([expected])
    if float(expected) * (MEASURED_STEPS + 1) > MAX_MEASURING_SECONDS or size == small:
        return float(expected), compiling
    return _time_steps(training, max(1, min(MEASURED_STEPS, training.steps - 1)))[0], compiling


def _time_steps(training: FullTraining, steps: int) -> tuple[float, float]:
    """Returns the mean duration of steps after one for warm-up, and how much longer that one took."""
    began = time.perf_counter()
    with closing(training.microbatches(range(steps + 1))) as stream:
        training.train_step(stream)
        started = time.perf_counter()
        for _ in range(steps):
            training.train_step(stream)
    mean = (time.perf_counter() - started) / max(1, steps)
    return mean, max(0.0, started - began - mean)


def _seconds_per_evaluated(training: FullTraining, spec: FullSpec, images: WholeImages) -> float:
    """Returns the duration of evaluating an image in one process."""
    part = EvaluatedImages(images.val, training.evaluation_transform, spec.arch.channels)
    count = min(PROBE_IMAGES, len(part))
    network = training.state.network
    seconds = []
    for _ in range(2):  # the first is for warm-up
        batches: Generator[tuple[Tensor, Tensor], None, None] = evaluation_batches(part, range(count), count, workers=0)
        started = time.perf_counter()
        with closing(batches):
            count_scores(network, batches)
        seconds.append(time.perf_counter() - started)
    return seconds[-1] / count
