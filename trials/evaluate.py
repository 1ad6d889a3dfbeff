"""The evaluation of ONE architecture, end to end: cost check, build, short proxy run, metrics.

`run_job` is what an engine calls in a worker process; torch is imported there and nowhere in the driver.
"""

from __future__ import annotations

import io
import resource
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from sret_nas.arch import ArchConfig
from sret_nas.cost import cost_of
from sret_nas.errors import BudgetError, UserError
from sret_nas.files import write_atomically
from sret_nas.nn.network import SReT
from trials.data import PreparedData
from trials.jobs import (
    FinalTestJob,
    FinalTestResult,
    Job,
    Result,
    SpeedJob,
    SpeedResult,
    TargetCost,
    TrialJob,
    TrialResult,
    parse_job,
)
from trials.recipe import proxy_arch
from trials.train import score, train


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
    return measure_training_speed(job)


def evaluate(job: TrialJob) -> TrialResult:
    """Trains the proxy network of one architecture and scores it on the validation part.

    The same job gives the same result, bit for bit, on one kind of device and one thread count: every draw comes from
    the job's seed. Raises `BudgetError` before training, `DivergedError` in it, torch's errors if memory runs out.
    """
    started = time.perf_counter()
    target = _cost(job.arch)
    if not job.budget.allows(target.flops, target.params):
        raise BudgetError(
            f"network {job.arch.arch_id} with {target.flops} FLOPs and {target.params} parameters "
            f"breaks the budget: {job.budget.describe()}"
        )
    data = _open(job.data_dir)
    network = build_proxy(job, data, seed=job.seed)
    report = train(network, data, job.proxy.training, job.depth_schedule, job.seed)
    batch_size = job.proxy.training.batch_size
    by_depth = [score(network, data.val, batch_size, depth) for depth in range(1, network.arch.max_recursions + 1)]
    if job.weights_path is not None:
        save_weights(network, Path(job.weights_path))
    return TrialResult(
        error=by_depth[-1].error,
        cross_entropy=by_depth[-1].cross_entropy,
        error_by_depth=[depth_score.error for depth_score in by_depth],
        train_loss=report.loss,
        train_steps=report.steps,
        train_images=report.images,
        train_seconds=report.seconds,
        seconds=time.perf_counter() - started,
        target=target,
        proxy=_cost(network.arch),
        proxy_arch=network.arch,
        device=_device_name(_device(job.device)),
        peak_memory_mb=_peak_memory_mb(_device(job.device)),
    )


def run_final_test(job: FinalTestJob) -> FinalTestResult:
    """Scores trained proxy weights on the test part, which no search ever sees."""
    data = _open(job.data_dir)
    network = build_proxy(job, data, seed=0)
    state = torch.load(job.weights_path, map_location="cpu", weights_only=True)
    network.load_state_dict(state)
    result = score(network, data.test, job.proxy.training.batch_size)
    return FinalTestResult(error=result.error, cross_entropy=result.cross_entropy, num_images=len(data.test.labels))


def measure_training_speed(job: SpeedJob) -> SpeedResult:
    """Images per second of full-depth training, from a few real steps after as many that warm up."""
    data = _open(job.data_dir)
    network = build_proxy(job, data, seed=0)
    train(network, data, job.proxy.training, "full", seed=0, max_steps=2)
    report = train(network, data, job.proxy.training, "full", seed=0, max_steps=job.steps)
    return SpeedResult(
        images_per_second=report.images / report.seconds,
        proxy_flops=cost_of(network.arch).flops,
        classes=data.num_classes,
        channels=data.channels,
    )


def build_proxy(job: Job, data: PreparedData, seed: int) -> SReT:
    """A freshly initialised proxy network on the job's device; seeds torch's global generators."""
    torch.manual_seed(seed)
    arch = proxy_arch(job.arch, job.proxy, channels=data.channels, classes=data.num_classes)
    return SReT(arch).to(_device(job.device))


def save_weights(network: SReT, path: Path) -> None:
    """Writes the state dict (loadable with `weights_only=True`) whole or not at all."""
    buffer = io.BytesIO()
    torch.save({name: tensor.cpu() for name, tensor in network.state_dict().items()}, buffer)
    write_atomically(path, buffer.getvalue())


@lru_cache(maxsize=1)
def _open(data_dir: str) -> PreparedData:
    return PreparedData.open(Path(data_dir))


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


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return kilobytes * 1024 / 1e6
