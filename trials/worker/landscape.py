"""Computes the losses of a trained network at one point of its landscape."""

from __future__ import annotations

import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from sret_nas.nn.network import SReT

from ..engines.jobs import LandscapeJob
from ..engines.results import LandscapeResult
from ..training.devices import device_name, device_of
from ..training.landscape_images import AUGMENTED, PLAIN, LandscapeImages
from ..training.train import parameter_groups, recalibrate_stem
from .context import WorkerContext


def measure_point(job: LandscapeJob, context: WorkerContext) -> LandscapeResult:
    """Moves the network to the job's point and computes its losses there, in fp32 and in evaluation mode.

    Permutations are the fixed ones and drop path is off, so the same job gives the same result.
    """
    started = time.perf_counter()
    images, movable = context.landscape_images(job), context.movable_network(job)
    network = movable.network
    assert isinstance(network, SReT)
    movable.move_to(job.x, job.y)
    if job.renews_statistics:
        recalibrate_stem(network, images.calibration(job.batch_size))
    cross_entropy, error = _mean_loss(network, images, PLAIN, job)
    augmented = decay = None
    if job.weight_decay is not None:
        augmented, _ = _mean_loss(network, images, AUGMENTED, job)
        decay = _finite(0.5 * job.weight_decay * _squared_norm(network))
    return LandscapeResult(
        cross_entropy=_finite(cross_entropy), error=error if math.isfinite(cross_entropy) else None,
        augmented_cross_entropy=None if augmented is None else _finite(augmented), weight_decay=decay,
        seconds=time.perf_counter() - started, device=device_name(device_of(job.device)),
    )  # fmt: skip


@torch.inference_mode()
def _mean_loss(network: SReT, images: LandscapeImages, kind: str, job: LandscapeJob) -> tuple[float, float]:
    """Returns mean cross-entropy (nats) and top-1 error (0 to 1) over all images of a kind."""
    device = network.pos_embed.device
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    count = 0
    for inputs, targets in images.batches(kind, job.batch_size):
        labels = targets.to(device)
        logits = network(inputs.to(device), job.recursions).float()
        entropy = F.cross_entropy(logits, labels, reduction="sum").double()
        sums += torch.stack([entropy, (logits.argmax(dim=1) != _classes(labels)).sum().double()])
        count += len(labels)
    loss, wrong = (sums / count).tolist()
    return loss, wrong


def _classes(targets: Tensor) -> Tensor:
    """Returns the class of each target, the most probable one where they are probabilities."""
    return targets if targets.ndim == 1 else targets.argmax(dim=1)


def _squared_norm(network: SReT) -> float:
    """Returns the sum of squares of the parameters that training decays."""
    decayed: list[Tensor] = parameter_groups(network, 1.0)[0]["params"]  # type: ignore[assignment]
    return sum(float(parameter.detach().double().square().sum()) for parameter in decayed)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
