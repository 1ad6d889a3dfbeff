"""Trains and scores one network on prepared images."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sret_nas.nn.network import SReT
from sret_nas.nn.stem import batch_norms
from sret_nas.space.search_space import DepthSchedule

from ..data import PreparedData, PreparedPart, batches
from .depth_schedule import depths_of_step
from .error_intervals import balanced_deviation
from .losses import hard_cross_entropy, taught_cross_entropy
from .optimizer import adamw
from .precision import passes_in
from .prepared_batches import endless_batches
from .prepared_labels import PreparedLabels
from .recipe import DivergedError, Precision, TrainingConfig


@dataclass(frozen=True)
class TrainingReport:
    """Counts and duration of a training; `loss` is the mean over the last tenth of its steps."""

    loss: float
    steps: int
    images: int
    seconds: float


@dataclass(frozen=True)
class Score:
    """Top-1 error (0 to 1) and mean cross-entropy (nats) over a part of the data."""

    error: float
    cross_entropy: float
    deviation: float | None = None
    """Standard deviation of the error by the luck of the images, if classes count alike and all images were scored at
    once; else None."""


EMBEDDINGS = ("pos_embed", "class_tokens.")
"""How the names of weights begin that are added to tokens, or join them."""


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Returns parameter groups for the optimiser, with weight decay for matrices and filters only.

    Biases, norms, residual coefficients, the position embedding and class tokens are not decayed, as in DeiT.
    """
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (undecayed if parameter.ndim < 2 or name.startswith(EMBEDDINGS) else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": undecayed, "weight_decay": 0.0}]


def learning_rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Returns a step's share of the peak learning rate: linear warm-up, then half a cosine down to 0."""
    warmup = round(warmup_share * steps)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Training:
    """Trains one network in place, on its device. Can be stopped at any step and continued from a checkpoint.

    With stored soft labels, these take the place of the images' classes.

    Draws permutations and drop path from torch's global generator without seeding it: seed it for a repeatable run.
    """

    def __init__(
        self, network: SReT, data: PreparedData, config: TrainingConfig, schedule: DepthSchedule, seed: int,
        precision: Precision = "fp32", labels: PreparedLabels | None = None,
    ) -> None:  # fmt: skip
        self.network, self.config, self._precision, self._labels = network, config, precision, labels
        self._data, self._schedule, self._seed = data, schedule, seed
        self.optimizer = adamw(parameter_groups(network, config.weight_decay), config.learning_rate)
        self.rng = random.Random(seed)
        self.steps = config.num_steps(len(data.train))
        """Steps of the whole training; the learning rate schedule depends on it."""
        self.losses: list[float] = []
        """Loss of every step so far."""
        self.images = 0
        self.seconds = 0.0

    @property
    def device(self) -> torch.device:
        return self.network.pos_embed.device

    def run(self, until: int | None = None) -> None:
        """Trains up to step `until`, or to the end. Raises `DivergedError` as soon as a loss is not finite."""
        until = self.steps if until is None else min(until, self.steps)
        device = self.device
        self.network.train()
        started = time.perf_counter()
        for step, (inputs, labels) in zip(range(len(self.losses), until), self._batches(), strict=False):
            for group in self.optimizer.param_groups:
                factor = learning_rate_factor(step, self.steps, self.config.warmup_share)
                group["lr"] = self.config.learning_rate * factor
            depths = depths_of_step(self._schedule, self.network.arch.max_recursions, step / self.steps, self.rng)
            self.losses.append(self._step(inputs.to(device), labels.to(device), depths))
            self.images += len(labels)
        self.seconds += time.perf_counter() - started

    def _step(self, inputs: Tensor, labels: Tensor, depths: tuple[int, ...]) -> float:
        """Takes one optimiser step on the mean loss over recursion depths, and returns that loss."""
        network, config = self.network, self.config
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for depth in depths:
            with passes_in(self._precision, inputs.device):
                logits = network(inputs, max_recursions=depth)
            # The loss in fp32, whose range and precision it needs.
            loss = self._loss(logits.float(), labels) / len(depths)
            # Backward for each depth by itself: the activations of one depth at a time are in memory.
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        if not math.isfinite(total):
            raise DivergedError(f"the training loss became {total} (learning rate {config.learning_rate:g})")
        nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        self.optimizer.step()
        return total

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self._labels is None:
            return hard_cross_entropy(logits, labels, self.config.label_smoothing)
        return taught_cross_entropy(logits, labels, self._labels.temperature)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Returns the batches of the remaining steps."""
        return endless_batches(
            self._data.train, self._labels, batch_size=self.config.batch_size, seed=self._seed, first=len(self.losses)
        )

    @property
    def report(self) -> TrainingReport:
        last = self.losses[-max(1, len(self.losses) // 10) :]
        return TrainingReport(sum(last) / len(last), len(self.losses), self.images, self.seconds)


def train(
    network: SReT,
    data: PreparedData,
    config: TrainingConfig,
    schedule: DepthSchedule,
    seed: int,
    max_steps: int | None = None,
    precision: Precision = "fp32",
    labels: PreparedLabels | None = None,
) -> TrainingReport:
    """Trains a network without interruption (see `Training`). `max_steps` stops early, to measure speed.

    Raises `DivergedError` as soon as a loss is not finite.
    """
    training = Training(network, data, config, schedule, seed, precision, labels)
    training.run(max_steps)
    return training.report


def recalibrate_batch_norm(
    network: SReT, part: PreparedPart, batch_size: int, max_images: int = 1024, precision: Precision = "fp32"
) -> None:
    """Replaces the stem's BatchNorm statistics by those of the current weights on the first images of a part.

    Running averages lag behind the weights. After a proxy's few steps they lag far enough to change the ranking of
    candidates (benchmarks/NOTES.md).
    """
    part = first_images(part, max_images)
    recalibrate_stem(network, (inputs for inputs, _ in batches(part, batch_size=batch_size)), precision)


@torch.no_grad()
def recalibrate_stem(network: SReT, image_batches: Iterable[Tensor], precision: Precision = "fp32") -> None:
    """Replaces the stem's BatchNorm statistics by plain averages over batches (B, channels, H, W)."""
    device = network.pos_embed.device
    norms = batch_norms(network.stem)
    if not norms:  # a stem without BatchNorm
        network.stem.eval()
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
    network.stem.train()  # the stem alone: the rest of the network does not affect its statistics
    for inputs in image_batches:
        if len(inputs) > 1:
            with passes_in(precision, device):
                network.stem(inputs.to(device))
    network.stem.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def first_images(part: PreparedPart, count: int) -> PreparedPart:
    """Returns the first images of a part. Parts are ordered so that these are stratified by class."""
    return slice_part(part, 0, count)


def slice_part(part: PreparedPart, start: int, stop: int) -> PreparedPart:
    """Returns the images and labels from `start` to before `stop`."""
    return replace(part, images=part.images[start:stop], labels=part.labels[start:stop])


@torch.no_grad()
def score(
    network: SReT, part: PreparedPart, batch_size: int, max_recursions: int | None = None, precision: Precision = "fp32"
) -> Score:
    """Scores a network on every image of a part, in evaluation mode. The cross-entropy may not be finite."""
    device = network.pos_embed.device
    network.eval()
    with passes_in(precision, device):
        images = (inputs.to(device) for inputs, _ in batches(part, batch_size=batch_size))
        return score_logits((network(inputs, max_recursions=max_recursions) for inputs in images), part)


def score_logits(logits: Iterable[Tensor], part: PreparedPart) -> Score:
    """Returns the score of logits: batches (B, classes) for all images of a part, in its order."""
    wrong, entropy, start = 0.0, 0.0, 0
    weights = None if part.image_weights is None else torch.from_numpy(part.image_weights)
    wrong_images = np.zeros(len(part.labels))
    for batch in logits:
        span = slice(start, start + len(batch))
        labels = torch.tensor(part.labels[span]).to(batch.device)
        start += len(batch)
        is_wrong = batch.argmax(dim=1) != labels
        wrong += float(is_wrong.sum() if weights is None else weights[span][is_wrong.cpu()].sum())
        wrong_images[span] = is_wrong.cpu()
        entropy += float(F.cross_entropy(batch.float(), labels, reduction="sum"))
    deviation = None
    if weights is not None:
        deviation = balanced_deviation(np.bincount(part.labels, weights=wrong_images), np.bincount(part.labels))
    return Score(wrong / total_weight(part), entropy / len(part.labels), deviation)


def total_weight(part: PreparedPart) -> float:
    """Returns the sum of the weights of images in an error: their number, if all count alike."""
    return float(len(part)) if part.image_weights is None else float(part.image_weights.sum())


def merge_scores(first: Score, first_part: PreparedPart, second: Score, second_part: PreparedPart) -> Score:
    """Returns the score over two disjoint slices of a part, from the score of each."""
    num_first, num_second = len(first_part), len(second_part)
    weights = total_weight(first_part), total_weight(second_part)
    wrong = first.error * weights[0] + second.error * weights[1]
    if first_part.class_weights is None:
        wrong = round(wrong)  # errors of whole images are counts
    entropy = first.cross_entropy * num_first + second.cross_entropy * num_second
    return Score(wrong / sum(weights), entropy / (num_first + num_second))
