"""Training and scoring of one network on prepared images."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sret_nas.nn.network import SReT
from sret_nas.space import DepthSchedule
from trials.data import Part, PreparedData, batches
from trials.depth_schedule import depths_of_step
from trials.jobs import DivergedError
from trials.recipe import TrainingConfig


@dataclass(frozen=True)
class TrainingReport:
    """What a training run did; `loss` is the mean over its last tenth."""

    loss: float
    steps: int
    images: int
    seconds: float


@dataclass(frozen=True)
class Score:
    """Top-1 error (a share, 0 to 1) and mean cross-entropy (nats) over a part of the data."""

    error: float
    cross_entropy: float


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices and filters only: not for biases, norms, residual coefficients, position embedding."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (free if parameter.ndim < 2 or name == "pos_embed" else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def learning_rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate in a step: linear warm-up, then half a cosine down to 0."""
    warmup = round(warmup_share * steps)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(
    network: SReT,
    data: PreparedData,
    config: TrainingConfig,
    schedule: DepthSchedule,
    seed: int,
    max_steps: int | None = None,
) -> TrainingReport:
    """Trains in place on `data.train`, on the device the network is on. `max_steps` stops early (to measure speed).

    Draws from torch's global generator (permutations, drop path); seed it for a repeatable run.
    Raises `DivergedError` as soon as a loss is not finite.
    """
    device = network.pos_embed.device
    # fused: one pass over the parameters instead of a dozen; see benchmarks/NOTES.md
    groups = parameter_groups(network, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    steps = config.num_steps(len(data.train))
    rng = random.Random(seed)
    losses: list[float] = []
    images = 0
    network.train()
    started = time.perf_counter()
    for step, (inputs, labels) in enumerate(_endless_batches(data, config, seed)):
        if step == min(steps, max_steps or steps):
            break
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(step, steps, config.warmup_share)
        depths = depths_of_step(schedule, network.arch.max_recursions, step / steps, rng)
        losses.append(_train_step(network, optimizer, inputs.to(device), labels.to(device), depths, config))
        images += len(labels)
    last = losses[-max(1, len(losses) // 10) :]
    return TrainingReport(sum(last) / len(last), len(losses), images, time.perf_counter() - started)


def _endless_batches(data: PreparedData, config: TrainingConfig, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    for epoch in itertools.count():
        yield from batches(data.train, batch_size=config.batch_size, seed=seed, epoch=epoch, augment=True)


def _train_step(
    network: SReT,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    labels: Tensor,
    depths: tuple[int, ...],
    config: TrainingConfig,
) -> float:
    """One optimiser step on the mean loss of the given recursion depths; returns that loss."""
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for depth in depths:
        logits = network(inputs, max_recursions=depth)
        loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing) / len(depths)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    if not math.isfinite(total):
        raise DivergedError(f"the training loss became {total} (learning rate {config.learning_rate:g})")
    nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
    optimizer.step()
    return total


@torch.no_grad()
def recalibrate(network: SReT, part: Part, batch_size: int, max_images: int = 1024) -> None:
    """Replaces the stem's BatchNorm statistics by those of the trained weights on the first images of a part.

    Running averages lag behind the weights, and after a proxy run's few steps far enough to reorder candidates
    (benchmarks/NOTES.md).
    """
    device = network.pos_embed.device
    norms = [module for module in network.stem.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
    network.stem.train()
    for inputs, _ in batches(first_images(part, max_images), batch_size=batch_size):
        if len(inputs) > 1:
            network.stem(inputs.to(device))
    network.stem.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def first_images(part: Part, number: int) -> Part:
    """A class-stratified subset: every beginning of a part has the classes in their own proportions."""
    return replace(part, images=part.images[:number], labels=part.labels[:number])


@torch.no_grad()
def score(network: SReT, part: Part, batch_size: int, max_recursions: int | None = None) -> Score:
    """Error and cross-entropy (which may not be finite) on every image of a part, in evaluation mode."""
    device = network.pos_embed.device
    network.eval()
    images = (inputs.to(device) for inputs, _ in batches(part, batch_size=batch_size))
    return scored((network(inputs, max_recursions=max_recursions) for inputs in images), part)


def scored(logits: Iterable[Tensor], part: Part) -> Score:
    """Error and cross-entropy, given the logits (B, classes) of a part's images, batch by batch in its order."""
    wrong, entropy, start = 0, 0.0, 0
    for batch in logits:
        labels = torch.tensor(part.labels[start : start + len(batch)]).to(batch.device)
        start += len(batch)
        wrong += int((batch.argmax(dim=1) != labels).sum())
        entropy += float(F.cross_entropy(batch, labels, reduction="sum"))
    return Score(wrong / len(part.labels), entropy / len(part.labels))
