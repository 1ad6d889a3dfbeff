"""The evaluation of ONE architecture, end to end: cost check, build, short proxy run, metrics.

`run_job` is what an engine calls in a worker process; torch is imported there and nowhere in the driver.
"""

from __future__ import annotations

import math
import platform
import resource
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from sret_nas.arch import ArchConfig
from sret_nas.cost import cost_of
from sret_nas.errors import BudgetError, UserError
from sret_nas.nn.measure import time_network, time_part
from sret_nas.nn.network import SReT
from sret_nas.nn.weights import load_network, save_network
from trials.data import PreparedData
from trials.inherit import SubnetScorer, inherited, open_supernet
from trials.jobs import (
    DivergedError,
    FinalJob,
    FinalResult,
    FinalTestJob,
    FinalTestResult,
    Job,
    LatencyJob,
    LatencyTimes,
    Result,
    SpeedJob,
    SpeedResult,
    SupernetSource,
    TargetCost,
    TrialJob,
    TrialResult,
    parse_job,
    trial_seed,
)
from trials.recipe import TrainingConfig, proxy_arch
from trials.train import Score, TrainingReport, first_images, recalibrate, score, train

SHALLOW_IMAGES = 1000
"""Validation images on which recursion depths below the full one are scored: for information, so a sample will do."""


TIMINGS_OF_PARTS, TIMINGS_OF_NETWORKS = 8, 4
"""Timings of each part and network in one round; rounds are repeated, and so interleaved with all others."""
PASSES_AHEAD = 8
"""Passes of a part per timing on a GPU, which works through what is queued: waiting for one alone costs more."""


def run_job(payload: dict[str, Any]) -> dict[str, Any]:
    """Runs one job given as plain data and returns its result as plain data."""
    job = parse_job(payload)
    torch.set_num_threads(job.threads)  # a reused worker would keep the count of its first job
    return _run(job).model_dump(mode="json")


def _run(job: Job) -> Result:
    if isinstance(job, TrialJob):
        return evaluate(job)
    if isinstance(job, FinalTestJob):
        return run_final_test(job)
    if isinstance(job, FinalJob):
        return run_final(job)
    if isinstance(job, LatencyJob):
        return measure_latency(job)
    return measure_training_speed(job)


def evaluate(job: TrialJob) -> TrialResult:
    """Scores the proxy network of one architecture on the validation part, trained here or inherited.

    On the CPU, the same job with the same number of threads gives the same result bit for bit: every draw comes from
    the job's seed. Raises `BudgetError` before training, `DivergedError` in it, torch's errors if memory runs out.
    """
    started = time.perf_counter()
    target = _cost(job.arch)
    if not job.budget.allows(target.flops, target.params):
        raise BudgetError(
            f"network {job.arch.arch_id} with {target.flops} FLOPs and {target.params} parameters "
            f"breaks the budget: {job.budget.describe()}"
        )
    data = _open(job)
    arch = proxy_arch(job.arch, job.proxy, channels=data.channels, classes=data.num_classes)
    found = _trained(job, arch, data) if job.supernet is None else _inherited(job, job.supernet, arch, data)
    if not math.isfinite(found.full.cross_entropy):
        raise DivergedError(f"the validation cross-entropy is {found.full.cross_entropy}")
    return TrialResult(
        error=found.full.error,
        cross_entropy=found.full.cross_entropy,
        error_by_depth=[*(shallow.error for shallow in found.shallow), found.full.error],
        train_loss=found.training.loss if found.training.steps > 0 else None,
        train_steps=found.training.steps,
        train_images=found.training.images,
        train_seconds=found.training.seconds,
        seconds=time.perf_counter() - started,
        target=target.model_copy(update={"latency_us": job.latency_us}),
        proxy=_cost(arch),
        proxy_arch=arch,
        device=_device_name(_device(job.device)),
        peak_memory_mb=_peak_memory_mb(_device(job.device)),
    )


@dataclass(frozen=True)
class _Found:
    """What was found of a network: its training, its score, and those of fewer recursions."""

    training: TrainingReport
    full: Score
    shallow: tuple[Score, ...] = ()


NO_TRAINING = TrainingReport(loss=math.nan, steps=0, images=0, seconds=0.0)


def _trained(job: TrialJob, arch: ArchConfig, data: PreparedData) -> _Found:
    """Trains a network from scratch and scores it."""
    seed = trial_seed(job.seed, arch.arch_id, job.depth_schedule)
    network = build(arch, job.device, seed)
    report = train(network, data, job.proxy.training, job.depth_schedule, seed)
    batch_size = job.proxy.training.batch_size
    recalibrate(network, data.train, batch_size)
    full = score(network, data.val, batch_size)
    if job.weights_path is not None and math.isfinite(full.cross_entropy):
        save_network(Path(job.weights_path), network)
    some = first_images(data.val, SHALLOW_IMAGES)
    shallow = (score(network, some, batch_size, depth) for depth in range(1, arch.max_recursions))
    return _Found(report, full, tuple(shallow))


def _inherited(job: TrialJob, source: SupernetSource, arch: ArchConfig, data: PreparedData) -> _Found:
    """Takes a network's weights from a supernet, trains it on if that is wanted, and scores it."""
    batch_size = job.proxy.training.batch_size
    if job.fine_tuning is None:
        scorer = _scorer(source, job.data_dir, job.data_digest, _device(job.device), batch_size, job.score_images)
        return _Found(NO_TRAINING, scorer.score(arch))
    part = data.val if job.score_images is None else first_images(data.val, job.score_images)
    seed = trial_seed(job.seed, arch.arch_id, job.depth_schedule)
    network, report = _trained_on(source, arch, data, job.fine_tuning, job.device, seed)
    return _Found(report, score(network, part, batch_size))


def _trained_on(
    source: SupernetSource, arch: ArchConfig, data: PreparedData, training: TrainingConfig, device: str, seed: int
) -> tuple[SReT, TrainingReport]:
    """A subnet with its inherited weights trained on."""
    torch.manual_seed(seed)
    network = open_supernet(source, _device(device)).extract(arch)
    report = train(network, data, training, "full", seed)
    recalibrate(network, data.train, training.batch_size)
    return network, report


def run_final(job: FinalJob) -> FinalResult:
    """Trains a final network, on from a supernet's weights or from scratch, and scores it on validation and test.

    Raises as `evaluate` does.
    """
    started = time.perf_counter()
    data, target = _open(job), _cost(job.arch)
    arch = proxy_arch(job.arch, job.proxy, channels=data.channels, classes=data.num_classes)
    seed, batch_size = trial_seed(job.seed, arch.arch_id, "full"), job.training.batch_size
    if job.supernet is None:
        before = None
        network = build(arch, job.device, seed)
        report = train(network, data, job.training, "full", seed)
        recalibrate(network, data.train, batch_size)
    else:
        before = score(
            inherited(open_supernet(job.supernet, _device(job.device)), arch, data, batch_size), data.val, batch_size
        )
        network, report = _trained_on(job.supernet, arch, data, job.training, job.device, seed)
    val, test = score(network, data.val, batch_size), score(network, data.test, batch_size)
    if not math.isfinite(val.cross_entropy + test.cross_entropy):
        raise DivergedError(f"the cross-entropy is {val.cross_entropy} (validation), {test.cross_entropy} (test)")
    if job.weights_path is not None:
        save_network(Path(job.weights_path), network)
    return FinalResult(
        arch=job.arch,
        flops=target.flops,
        params=target.params,
        inherited_error=None if before is None else before.error,
        inherited_cross_entropy=None if before is None else before.cross_entropy,
        error=val.error,
        cross_entropy=val.cross_entropy,
        test_error=test.error,
        test_cross_entropy=test.cross_entropy,
        num_val_images=len(data.val),
        num_test_images=len(data.test),
        train_images=report.images,
        seconds=time.perf_counter() - started,
    )


def run_final_test(job: FinalTestJob) -> FinalTestResult:
    """Scores trained proxy weights on the test part, which no search ever sees."""
    data = _open(job)
    arch = proxy_arch(job.arch, job.proxy, channels=data.channels, classes=data.num_classes)
    network = load_network(Path(job.weights_path)).to(_device(job.device))
    if network.arch != arch:
        raise UserError(f"{job.weights_path} are the weights of another network, {network.arch.arch_id}")
    result = score(network, data.test, job.proxy.training.batch_size)
    return FinalTestResult(error=result.error, cross_entropy=result.cross_entropy, num_images=len(data.test.labels))


def measure_training_speed(job: SpeedJob) -> SpeedResult:
    """Images per second of full-depth training, from a few real steps after two that warm up."""
    data = _open(job)
    arch = proxy_arch(job.arch, job.proxy, channels=data.channels, classes=data.num_classes)
    network = build(arch, job.device, seed=0)
    train(network, data, job.proxy.training, "full", seed=0, max_steps=2)
    report = train(network, data, job.proxy.training, "full", seed=0, max_steps=job.steps)
    return SpeedResult(
        images_per_second=report.images / report.seconds,
        num_val_images=len(data.val),
        device=_device_name(_device(job.device)),
        proxy_flops=cost_of(arch).flops,
        classes=data.num_classes,
        channels=data.channels,
    )


def measure_latency(job: LatencyJob) -> LatencyTimes:
    """Times every part and every network of a job once through, each built for it and then let go."""
    device = _device(job.device)
    passes = 1 if device.type == "cpu" else PASSES_AHEAD

    def microseconds(seconds: list[float]) -> list[float]:
        return [1e6 * value for value in seconds]

    return LatencyTimes(
        parts=[
            microseconds(time_part(part, job.batch_size, device, samples=TIMINGS_OF_PARTS, passes=passes))
            for part in job.parts
        ],
        networks=[
            microseconds(time_network(arch, job.batch_size, device, samples=TIMINGS_OF_NETWORKS))
            for arch in job.networks
        ],
        device=f"cpu ({_processor_name()})" if device.type == "cpu" else _device_name(device),
    )


def build(arch: ArchConfig, device: str, seed: int) -> SReT:
    """A freshly initialised network on a device; seeds torch's global generators."""
    torch.manual_seed(seed)
    return SReT(arch).to(_device(device))


@lru_cache(maxsize=1)
def _scorer(
    source: SupernetSource, data_dir: str, data_digest: str, device: torch.device, batch_size: int, images: int | None
) -> SubnetScorer:
    """Kept from job to job, with the features that networks share; the digest tells data from other data."""
    return SubnetScorer(open_supernet(source, device), _open_directory(data_dir), batch_size, images)


def _open(job: TrialJob | FinalTestJob | FinalJob | SpeedJob) -> PreparedData:
    """The job's images. Raises `UserError` if they are not those that the search was begun with."""
    data = _open_directory(job.data_dir)
    if data.digest != job.data_digest:
        raise UserError(f"the prepared images in {job.data_dir} are not those that the search was begun with")
    return data


@lru_cache(maxsize=1)
def _open_directory(directory: str) -> PreparedData:
    return PreparedData.open(Path(directory))


def _cost(arch: ArchConfig) -> TargetCost:
    cost = cost_of(arch)
    return TargetCost(flops=cost.flops, params=cost.params, image_size=cost.image_size, classes=cost.classes)


def _device(name: str) -> torch.device:
    """`auto` is a GPU where there is one. Raises `UserError` for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name} is not there: torch sees {torch.cuda.device_count()} CUDA device(s)")
    return device


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _processor_name() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return kilobytes * 1024 / 1e6
