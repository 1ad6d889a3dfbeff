"""Evaluates ONE architecture, end to end: cost check, weights (inherited or trained), score, metrics."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import bounded_costs, cost_of
from sret_nas.errors import BudgetError
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from sret_nas.space.search_space import DepthSchedule

from ..data import PreparedData, PreparedPart
from ..engines.jobs import SHALLOW_IMAGES, InheritedTrialJob, ScratchTrialJob, TrialJob, trial_seed
from ..engines.results import TargetCost, TrialResult
from ..supernet.inherit import SubnetScorer
from ..training.checkpoint import load_checkpoint, save_checkpoint
from ..training.devices import device_memory, device_name, device_of, peak_memory_mb
from ..training.memory import require_memory
from ..training.prepared_labels import PreparedLabels
from ..training.recipe import DivergedError, Precision, TrainingConfig, proxy_arch
from ..training.train import (
    Score,
    Training,
    TrainingReport,
    first_images,
    merge_scores,
    recalibrate_batch_norm,
    score,
    train,
)
from .context import WorkerContext


def evaluate(job: TrialJob, context: WorkerContext) -> TrialResult:
    """Scores the proxy network of one architecture on the validation part, with trained or inherited weights.

    On the CPU, the same job with the same number of threads gives the same result bit for bit, since all random numbers
    depend on the job's seed alone. Raises `BudgetError` before training if the architecture breaks the budget,
    `DivergedError` if a loss is not finite, and torch's errors if memory runs out.
    """
    started = time.perf_counter()
    target = target_cost(job.arch)
    if not job.budget.allows(*bounded_costs(job.arch)):
        raise BudgetError(
            f"network {job.arch.arch_id} with {target.flops} FLOPs and {target.params} parameters "
            f"breaks the budget: {job.budget.describe()}"
        )
    data = context.data_of(job)
    arch = proxy_arch(job.arch, job.proxy, channels=data.channels, classes=data.num_classes)
    if isinstance(job, ScratchTrialJob):
        evaluation = _trained(job, arch, data, context.labels_of(job, data))
    else:
        evaluation = _inherited(job, arch, data, context)
    if not math.isfinite(evaluation.full.cross_entropy):
        raise DivergedError(f"the validation cross-entropy is {evaluation.full.cross_entropy}")
    return TrialResult(
        fraction=job.fraction,
        error=evaluation.full.error,
        cross_entropy=evaluation.full.cross_entropy,
        error_by_depth=[*(shallow.error for shallow in evaluation.shallow), evaluation.full.error],
        val_images=len(evaluation.part),
        effective_images=evaluation.part.effective_images if job.balanced_error else None,
        train_loss=evaluation.training.loss if evaluation.training.steps > 0 else None,
        train_steps=evaluation.training.steps,
        train_images=evaluation.training.images,
        train_seconds=evaluation.training.seconds,
        seconds=time.perf_counter() - started,
        target=target.model_copy(update={"latency_us": job.latency_us}),
        proxy=target_cost(arch),
        proxy_arch=arch,
        device=device_name(device_of(job.device)),
        peak_memory_mb=peak_memory_mb(device_of(job.device)),
    )


@dataclass(frozen=True)
class _Evaluation:
    """A network's training, its score at full depth, and its scores at smaller recursion depths."""

    training: TrainingReport
    full: Score
    part: PreparedPart
    """Validation images of the full score."""
    shallow: tuple[Score, ...] = ()


NO_TRAINING = TrainingReport(loss=math.nan, steps=0, images=0, seconds=0.0)


def _trained(job: ScratchTrialJob, arch: ArchConfig, data: PreparedData, labels: PreparedLabels | None) -> _Evaluation:
    """Trains a network, from scratch or from a checkpoint, and scores it."""
    seed = trial_seed(job.seed, arch.arch_id, job.depth_schedule)
    network = build(arch, job.device, seed)
    precision = job.precision
    training = Training(network, data, job.proxy.training, job.depth_schedule, seed, precision, labels)
    _train(job, training, seed)
    batch_size = job.proxy.training.batch_size
    recalibrate_batch_norm(network, data.train, batch_size, precision=precision)
    if job.fraction < 1:  # scoring more images than the rung trained on would take more than a third of its time
        part = first_images(data.val, min(len(data.val), training.images))
        full = score(network, part, batch_size, precision=precision)
        shallow = shallow_scores(network, part, batch_size, precision) if job.scores_depths else ()
        return _Evaluation(training.report, full, part, shallow)
    full = score(network, data.val, batch_size, precision=precision)
    if job.weights_path is not None and math.isfinite(full.cross_entropy):
        network.save(Path(job.weights_path))
    some = data.val if job.scores_depths else first_images(data.val, SHALLOW_IMAGES)
    return _Evaluation(training.report, full, data.val, shallow_scores(network, some, batch_size, precision))


def shallow_scores(network: SReT, part: PreparedPart, batch_size: int, precision: Precision) -> tuple[Score, ...]:
    """Returns a network's scores with at most 1, 2, ... recursions, up to those before the full depth."""
    depths = range(1, network.arch.max_recursions)
    return tuple(score(network, part, batch_size, depth, precision) for depth in depths)


def _train(job: ScratchTrialJob, training: Training, seed: int) -> None:
    """Trains up to the job's fraction. Starts from a checkpoint, and writes one, if the job names them."""
    until = max(1, round(job.fraction * training.steps))
    identity = {
        "network": training.network.arch.arch_id, "schedule": job.depth_schedule, "seed": seed,
        "training": job.proxy.training.model_dump(mode="json"), "data": job.data_digest,
    }  # fmt: skip
    if job.precision != "fp32":  # checkpoints of earlier versions, all of fp32, have no such key
        identity["precision"] = job.precision
    if job.soft_labels is not None:
        identity["soft labels"] = job.soft_labels.digest
    if job.checkpoint_from is not None:
        load_checkpoint(Path(job.checkpoint_from), training, identity, until)
    training.run(until)
    if job.checkpoint_to is not None and math.isfinite(training.report.loss):
        save_checkpoint(Path(job.checkpoint_to), training, identity)


def _inherited(job: InheritedTrialJob, arch: ArchConfig, data: PreparedData, context: WorkerContext) -> _Evaluation:
    """Extracts a network from a supernet, fine-tunes it if the job asks for that, and scores it."""
    source, batch_size, device = job.supernet, job.proxy.training.batch_size, device_of(job.device)
    if job.fine_tuning is None:
        scorer = context.scorer(source, data, device, batch_size, job.val_images_per_trial, job.precision)
        return _scored(job, scorer, arch)
    part = data.val if job.val_images_per_trial is None else first_images(data.val, job.val_images_per_trial)
    seed = trial_seed(job.seed, arch.arch_id, job.depth_schedule)
    supernet = context.supernet(source, device)
    schedule: DepthSchedule = "joint" if job.scores_depths else "full"
    labels = context.labels_of(job, data)
    network, report = fine_tune(supernet, arch, data, job.fine_tuning, seed, job.precision, schedule, labels)
    full = score(network, part, batch_size, precision=job.precision)
    shallow = shallow_scores(network, part, batch_size, job.precision) if job.scores_depths else ()
    return _Evaluation(report, full, part, shallow)


def _scored(job: InheritedTrialJob, scorer: SubnetScorer, arch: ArchConfig) -> _Evaluation:
    """Scores inherited weights on the job's fraction of the images. Reuses the score of an earlier rung."""
    until = max(1, round(job.fraction * scorer.num_images))
    start = 0 if job.known is None else job.known.images
    depths = range(1, arch.max_recursions) if job.scores_depths else ()
    full, *shallow = (scorer.score(arch, start, until, depth) for depth in (None, *depths))
    if job.known is not None:
        before, rest = scorer.part(0, start), scorer.part(start, until)
        full = merge_scores(Score(job.known.error, job.known.cross_entropy), before, full, rest)
        # Of the shallower depths, nobody asks the cross-entropy.
        shallow = [
            merge_scores(Score(error, 0.0), before, score, rest)
            for error, score in zip(job.known.error_by_depth[:-1], shallow, strict=True)
        ]
    return _Evaluation(NO_TRAINING, full, scorer.part(0, until), tuple(shallow))


def fine_tune(
    supernet: Supernet, arch: ArchConfig, data: PreparedData, training: TrainingConfig, seed: int, precision: Precision,
    schedule: DepthSchedule = "full", labels: PreparedLabels | None = None,
) -> tuple[SReT, TrainingReport]:  # fmt: skip
    """Fine-tunes a subnet from its inherited weights. Seeds torch's global generators."""
    torch.manual_seed(seed)
    network = supernet.extract(arch)
    report = train(network, data, training, schedule, seed, precision=precision, labels=labels)
    recalibrate_batch_norm(network, data.train, training.batch_size, precision=precision)
    return network, report


def build(arch: ArchConfig, device: str, seed: int) -> SReT:
    """Returns a newly initialised network on a device. Seeds torch's global generators.

    Raises `UserError`, before anything is built, if its training cannot fit into the device's memory.
    """
    on = device_of(device)
    advice = "bound the parameters with --params-budget, or use a smaller space"
    require_memory(cost_of(arch).params, device_memory(on), f"the proxy {arch.arch_id} ({arch.summary()})", advice)
    torch.manual_seed(seed)
    return SReT(arch).to(on)


def target_cost(arch: ArchConfig) -> TargetCost:
    """Returns a network's cost, with the image size and classes for which it holds."""
    cost = cost_of(arch)
    return TargetCost(flops=cost.flops, params=cost.params, image_size=cost.image_size, classes=cost.classes)
