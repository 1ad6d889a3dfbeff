"""Measures how long a supernet's training steps and the scores of its networks take, before it is trained."""

from __future__ import annotations

import time
from pathlib import Path

from sret_nas.arch.cost import cost_of
from sret_nas.nn.supernet import Supernet
from sret_nas.space.supernet_shape import bounding_shape

from ..distributed.processes import process_group
from ..engines.jobs import SupernetSpeedJob
from ..engines.results import SupernetSpeedResult
from ..supernet.config import SupernetConfig
from ..supernet.inherit import SubnetScorer
from ..supernet.spec import TrainingSpec
from ..supernet.speed import seconds_per_step
from ..supernet.training import SupernetTraining
from ..training.devices import compute_with
from .context import WorkerContext

TIMED_BATCHES = 2
"""Batches after the first that are timed in each score."""


def measure_supernet_speed(job: SupernetSpeedJob, context: WorkerContext) -> SupernetSpeedResult:
    """Trains a supernet for a few steps, if the job asks for that, and scores some of its networks.

    Every network is new to the process, as in a search: the first passes of its shapes are slow, and count.
    """
    data, batch_size = context.data_of(job), job.proxy.training.batch_size
    images = job.steps * min(job.training.batch_size, len(data.train))
    config = SupernetConfig(
        training=job.training.model_copy(update={"images": images}), depth_schedule=job.depth_schedule,
        precision=job.precision,
    )  # fmt: skip
    spec = TrainingSpec(
        space=job.space, budget=job.budget, proxy=job.proxy, config=config, seed=job.seed, soft_labels=job.soft_labels
    )
    adapted = spec.proxy_maker(data)
    start_seconds = step_seconds = None
    with process_group(job.device) as processes:
        if job.training_threads is None:
            supernet = Supernet(bounding_shape(job.space, adapted=adapted)).to(processes.device)
        else:
            compute_with(job.training_threads)
            started = time.perf_counter()
            training = SupernetTraining(Path(), spec, data, processes)
            start_seconds = time.perf_counter() - started
            step_seconds = seconds_per_step(training)
            supernet = training.state.supernet
            del training
    compute_with(job.threads)
    scorer = SubnetScorer(supernet.eval(), data, batch_size, precision=job.precision)
    first = min(batch_size, scorer.num_images)
    until = min((1 + TIMED_BATCHES) * batch_size, scorer.num_images)
    first_seconds, more_seconds, more_flops = 0.0, 0.0, 0
    for target in job.scored:
        arch, started = adapted(target), time.perf_counter()
        scorer.score(arch, 0, first)
        scored_first = time.perf_counter()
        first_seconds += scored_first - started
        if until > first:
            scorer.score(arch, first, until)
            more_seconds += time.perf_counter() - scored_first
            more_flops += (until - first) * cost_of(arch).flops
    return SupernetSpeedResult(
        start_seconds=start_seconds,
        step_seconds=step_seconds,
        first_images=first,
        first_batch_seconds=first_seconds / len(job.scored),
        seconds_per_flop=more_seconds / max(1, more_flops),
    )
