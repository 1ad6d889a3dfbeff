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

from sret_nas.nn.network import SReT, batch_norms
from sret_nas.space.search_space import DepthSchedule

from ..data import PreparedData, Split, batches, num_training_batches, training_batches
from .depth_schedule import depths_of_step
from .recipe import DivergedError, TrainingConfig


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


class Training:
    """The training of one network, in place, on the device that it is on. It can be left off and carried on elsewhere.

    Seeds nothing: it draws from torch's global generator (permutations, drop path), so seed that for a repeatable run.
    """

    def __init__(
        self, network: SReT, data: PreparedData, config: TrainingConfig, schedule: DepthSchedule, seed: int
    ) -> None:
        self.network, self.config = network, config
        self._data, self._schedule, self._seed = data, schedule, seed
        # fused: one pass over the parameters instead of a dozen; see benchmarks/NOTES.md
        groups = parameter_groups(network, config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        self.rng = random.Random(seed)
        self.steps = config.num_steps(len(data.train))
        """Of the whole training, which the learning rate follows."""
        self.losses: list[float] = []
        """Of every step done so far."""
        self.images = 0
        self.seconds = 0.0

    @property
    def device(self) -> torch.device:
        return self.network.pos_embed.device

    def run(self, until: int | None = None) -> None:
        """Trains up to a step, or to the end. Raises `DivergedError` as soon as a loss is not finite."""
        until = self.steps if until is None else min(until, self.steps)
        device = self.device
        self.network.train()
        started = time.perf_counter()
        for step, (inputs, labels) in zip(range(len(self.losses), until), self._batches(), strict=False):
            for group in self.optimizer.param_groups:
                factor = learning_rate_factor(step, self.steps, self.config.warmup_share)
                group["lr"] = self.config.learning_rate * factor
            depths = depths_of_step(self._schedule, self.network.arch.max_recursions, step / self.steps, self.rng)
            self.losses.append(
                _train_step(self.network, self.optimizer, inputs.to(device), labels.to(device), depths, self.config)
            )
            self.images += len(labels)
        self.seconds += time.perf_counter() - started

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the steps that are left."""
        size = self.config.batch_size
        epoch, first = divmod(len(self.losses), num_training_batches(self._data.train, batch_size=size))
        for number in itertools.count(epoch):
            yield from training_batches(self._data.train, batch_size=size, seed=self._seed, epoch=number, first=first)
            first = 0

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
) -> TrainingReport:
    """Trains a network in one go (see `Training`). `max_steps` stops early (to measure speed).

    Raises `DivergedError` as soon as a loss is not finite.
    """
    training = Training(network, data, config, schedule, seed)
    training.run(max_steps)
    return training.report


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
def recalibrate_batch_norm(network: SReT, part: Split, batch_size: int, max_images: int = 1024) -> None:
    """Replaces the stem's BatchNorm statistics by those of the trained weights on the first images of a part.

    Running averages lag behind the weights, and after a proxy run's few steps far enough to reorder candidates
    (benchmarks/NOTES.md).
    """
    device = network.pos_embed.device
    norms = batch_norms(network.stem)
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


def first_images(part: Split, number: int) -> Split:
    """A class-stratified subset: every beginning of a part has the classes in their own proportions."""
    return slice_split(part, 0, number)


def slice_split(part: Split, start: int, stop: int) -> Split:
    return replace(part, images=part.images[start:stop], labels=part.labels[start:stop])


@torch.no_grad()
def score(network: SReT, part: Split, batch_size: int, max_recursions: int | None = None) -> Score:
    """Error and cross-entropy (which may not be finite) on every image of a part, in evaluation mode."""
    device = network.pos_embed.device
    network.eval()
    images = (inputs.to(device) for inputs, _ in batches(part, batch_size=batch_size))
    return score_logits((network(inputs, max_recursions=max_recursions) for inputs in images), part)


def score_logits(logits: Iterable[Tensor], part: Split) -> Score:
    """Error and cross-entropy, given the logits (B, classes) of a part's images, batch by batch in its order."""
    wrong, entropy, start = 0, 0.0, 0
    for batch in logits:
        labels = torch.tensor(part.labels[start : start + len(batch)]).to(batch.device)
        start += len(batch)
        wrong += int((batch.argmax(dim=1) != labels).sum())
        entropy += float(F.cross_entropy(batch, labels, reduction="sum"))
    return Score(wrong / len(part.labels), entropy / len(part.labels))


def merge_scores(first: Score, num_first: int, second: Score, num_second: int) -> Score:
    """The score over two sets of images, of so many each."""
    number = num_first + num_second
    wrong = round(first.error * num_first) + round(second.error * num_second)
    return Score(wrong / number, (first.cross_entropy * num_first + second.cross_entropy * num_second) / number)
