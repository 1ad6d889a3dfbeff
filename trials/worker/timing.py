"""Measures speed on this machine: of training, and of forward passes of parts and networks."""

from __future__ import annotations

import time

from sret_nas.arch.cost import cost_of
from sret_nas.nn.part_timing import time_network, time_part

from ..engines.jobs import LatencyJob, SpeedJob
from ..engines.results import LatencyTimes, SpeedResult
from ..machine import processor_name
from ..training.devices import device_name, device_of
from ..training.precision import choose_precision
from ..training.recipe import proxy_arch
from ..training.train import TrainingReport, recalibrate_batch_norm, train
from .context import WorkerContext
from .evaluate import build

TIMINGS_OF_PARTS, TIMINGS_OF_NETWORKS = 8, 4
"""Timings of each part and network in one round. Rounds are repeated, so that timings of all parts interleave."""
PASSES_AHEAD = 8
"""Passes of a part per timing on a GPU. They are queued, because waiting for one pass takes longer than the pass."""


def measure_training_speed(job: SpeedJob, context: WorkerContext) -> SpeedResult:
    """Measures images per second of full-depth training over a few real steps, after two steps of warm-up.

    Chooses the precision on the worker's device, which may not be the driver's, if the job asks for that.
    """
    data = context.data_of(job)
    arch = proxy_arch(job.arch, job.proxy, channels=data.channels, classes=data.num_classes)
    device = device_of(job.device)
    precision = job.precision if job.requested is None else choose_precision(job.requested, device)
    started = time.perf_counter()
    network, labels = build(arch, job.device, seed=0), context.labels_of(job, data)
    built = time.perf_counter()

    def run(steps: int) -> TrainingReport:
        return train(
            network, data, job.proxy.training, "full", seed=0, max_steps=steps, precision=precision, labels=labels
        )

    warm_up = run(2)
    warmed_up = time.perf_counter()
    recalibrate_batch_norm(network, data.train, job.proxy.training.batch_size, precision=precision)
    calibrated = time.perf_counter()
    report = run(job.steps)
    usual = warm_up.steps * report.seconds / report.steps
    # The later steps may be the slower ones, if something else takes the processor: then the first cost nothing more.
    slow_passes = max(0.0, warmed_up - built - usual)
    return SpeedResult(
        images_per_second=report.images / report.seconds,
        start_seconds=(built - started) + slow_passes + (calibrated - warmed_up),
        num_val_images=len(data.val),
        num_test_images=len(data.test),
        device=device_name(device),
        precision=precision,
        proxy_flops=cost_of(arch).flops,
        classes=data.num_classes,
        channels=data.channels,
    )


def measure_latency(job: LatencyJob) -> LatencyTimes:
    """Times every part and every network of a job, one round. Each is built for its timings and then released."""
    device = device_of(job.device)
    passes = 1 if device.type == "cpu" else PASSES_AHEAD

    def microseconds(seconds: list[float]) -> list[float]:
        return [1e6 * duration for duration in seconds]

    return LatencyTimes(
        parts=[
            microseconds(time_part(part, job.batch_size, device, samples=TIMINGS_OF_PARTS, passes=passes))
            for part in job.parts
        ],
        networks=[
            microseconds(time_network(arch, job.batch_size, device, samples=TIMINGS_OF_NETWORKS))
            for arch in job.networks
        ],
        device=f"cpu ({processor_name()})" if device.type == "cpu" else device_name(device),
    )
