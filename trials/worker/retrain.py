"""Retrains finalists and tests networks on the test part, which no search ever sees."""

from __future__ import annotations

import math
import time
from pathlib import Path

from sret_nas.errors import UserError
from sret_nas.nn.network import SReT

from ..engines.jobs import FrontTestJob, RetrainJob, trial_seed
from ..engines.results import FrontTestResult, RetrainResult
from ..supernet.inherit import extract_for_eval
from ..training.devices import device_of
from ..training.recipe import DivergedError, proxy_arch
from ..training.train import recalibrate_batch_norm, score, train
from .context import WorkerContext
from .evaluate import build, fine_tune, shallow_scores, target_cost


def retrain(job: RetrainJob, context: WorkerContext) -> RetrainResult:
    """Trains a finalist, from a supernet's weights or from scratch, and scores it on validation and test parts.

    Raises as `evaluate` does.
    """
    started = time.perf_counter()
    data, target = context.data_of(job), target_cost(job.arch)
    arch = proxy_arch(job.arch, job.proxy, channels=data.channels, classes=data.num_classes)
    seed, batch_size = trial_seed(job.seed, arch.arch_id, job.depth_schedule), job.training.batch_size
    precision, labels = job.precision, context.labels_of(job, data)
    supernet = None if job.supernet is None else context.supernet(job.supernet, device_of(job.device))
    before = None
    if supernet is not None:
        inherited = extract_for_eval(supernet, arch, data, batch_size, precision)
        before = score(inherited, data.val, batch_size, precision=precision)
    if supernet is None or job.is_from_scratch:
        network = build(arch, job.device, seed)
        report = train(network, data, job.training, job.depth_schedule, seed, precision=precision, labels=labels)
        recalibrate_batch_norm(network, data.train, batch_size, precision=precision)
    else:
        network, report = fine_tune(supernet, arch, data, job.training, seed, precision, job.depth_schedule, labels)
    val, test = (score(network, part, batch_size, precision=precision) for part in (data.val, data.test))
    by_depth: list[list[float]] = [[], []]
    if job.depth_schedule != "full":
        for errors, part, full in zip(by_depth, (data.val, data.test), (val, test), strict=True):
            shallow = shallow_scores(network, part, batch_size, precision)
            errors += [*(one.error for one in shallow), full.error]
    if not math.isfinite(val.cross_entropy + test.cross_entropy):
        raise DivergedError(f"the cross-entropy is {val.cross_entropy} (validation), {test.cross_entropy} (test)")
    if job.weights_path is not None:
        network.save(Path(job.weights_path))
    return RetrainResult(
        arch=job.arch,
        flops=target.flops,
        params=target.params,
        inherited_error=None if before is None else before.error,
        inherited_cross_entropy=None if before is None else before.cross_entropy,
        error=val.error,
        cross_entropy=val.cross_entropy,
        test_error=test.error,
        test_cross_entropy=test.cross_entropy,
        error_by_depth=by_depth[0],
        test_error_by_depth=by_depth[1],
        num_val_images=len(data.val),
        num_test_images=len(data.test),
        val_deviation=val.deviation,
        test_deviation=test.deviation,
        train_images=report.images,
        seconds=time.perf_counter() - started,
    )


def run_front_test(job: FrontTestJob, context: WorkerContext) -> FrontTestResult:
    """Scores a trial's trained proxy weights on the test part. Raises `UserError` if they are another network's."""
    data = context.data_of(job)
    arch = proxy_arch(job.arch, job.proxy, channels=data.channels, classes=data.num_classes)
    network = SReT.load(Path(job.weights_path)).to(device_of(job.device))
    if network.arch != arch:
        raise UserError(f"{job.weights_path} are the weights of another network, {network.arch.arch_id}")
    result = score(network, data.test, job.proxy.training.batch_size, precision=job.precision)
    return FrontTestResult(error=result.error, cross_entropy=result.cross_entropy, num_images=len(data.test.labels))
