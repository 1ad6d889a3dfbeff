"""A timm network that teaches supernets: how it is made, trained and timed, and a step that learns from it.

There is nothing to download here, so it is trained on the same images. It costs a supernet's step its forward pass on
the step's own, augmented batch; its training is told apart. Soft labels alone, as SReT's authors distil.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.machine import describe_machine
from benchmarks.ranking.pass_times import PassTimes
from benchmarks.ranking.setting import BUDGET, PROXY, SPACE
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.files import write_atomically
from sret_nas.nn.supernet import Supernet
from sret_nas.space.supernet_shape import bounding_shape
from trials.data import PreparedData, batches, training_batches
from trials.distributed.processes import Processes, process_group
from trials.runs.directory import SUPERNET
from trials.supernet.config import SupernetConfig
from trials.supernet.spec import TrainingSpec
from trials.supernet.step import SupernetStep
from trials.supernet.training import SupernetTraining, training_record
from trials.training.losses import soft_cross_entropy

NAME = "resnet18"
SHAPE: dict[str, Any] = {"layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256)}
"""In place of the named network's blocks and channels, which are for larger images than 24 px."""
RECIPE: dict[str, Any] = {
    "images": 480_000, "batch_size": 128, "learning_rate": 0.2, "momentum": (0.85, 0.95), "weight_decay": 5e-4
}  # fmt: skip
"""SGD with Nesterov's momentum, one cycle of learning rate and momentum, true labels without smoothing; seed 0."""

TIMED_NETWORKS = 16
ROUNDS = 6


def build(classes: int) -> nn.Module:
    """Returns the teacher with random weights: its stem halves the image once instead of twice."""
    import timm

    network: nn.Module = timm.create_model(NAME, pretrained=False, num_classes=classes, **SHAPE)
    stem = network.get_submodule("conv1")
    assert isinstance(stem, nn.Conv2d)
    network.conv1 = nn.Conv2d(3, stem.out_channels, 3, stride=2, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network.to(memory_format=torch.channels_last)


def logits_of(teacher: nn.Module, images: Tensor) -> Tensor:
    """Returns logits (B, classes) of images (B, 3, H, W); passes in bf16, which take half as long."""
    with torch.autocast("cpu", torch.bfloat16):
        logits: Tensor = teacher(images.contiguous(memory_format=torch.channels_last))
    return logits.float()


@dataclass(frozen=True)
class Teacher:
    """A trained one: the file of its weights, and the seconds of `PassTimes` that it adds to a step."""

    weights: Path
    seconds: float

    def network(self, classes: int) -> nn.Module:
        """Returns the teacher in evaluation mode."""
        network = build(classes)
        network.load_state_dict(torch.load(self.weights, weights_only=True))
        return network.eval().requires_grad_(False)

    def train_supernet(
        self, directory: Path, budget: Budget, config: SupernetConfig, data: PreparedData, seed: int, console: Console
    ) -> Path:
        """Trains as `trials.supernet.training.train_supernet`, on one thread of this process,
        with soft labels alone."""
        spec = TrainingSpec(space=SPACE, budget=budget, proxy=PROXY, config=config, seed=seed)
        identity = {**spec.identity(data), "teacher": NAME}
        torch.set_num_threads(1)
        with process_group("cpu") as processes:
            training = SupernetTraining(directory, spec, data, processes)
            state = training.state
            state.step = TaughtStep(state.supernet, config, processes, self.network(data.num_classes))
            training.run(identity, console)
        path = directory / SUPERNET
        state.supernet.save(path, training_record(spec, data, state, identity))
        return path


def prepared_teacher(weights: Path, result: Path, data: PreparedData, times: PassTimes) -> Teacher:
    """Returns the one in a file, or one that is trained now; what it is worth and costs is left in `result`."""
    if not weights.exists() or not result.exists():
        found = {
            **describe_machine("torch", "timm"), "seed": 0, "network": NAME, "shape": SHAPE, "recipe": RECIPE,
            **train(weights, data),
        }  # fmt: skip
        timed = seconds_of(Teacher(weights, 0).network(data.num_classes), data, times)
        timed["training"] = timed["training_step"] * found["steps"]
        write_atomically(result, json.dumps({**found, "idle_seconds": timed}, indent=1) + "\n")
    return Teacher(weights, json.loads(result.read_text(encoding="utf-8"))["idle_seconds"]["pass"])


def train(path: Path, data: PreparedData, images: int = RECIPE["images"]) -> dict[str, Any]:
    """Trains a teacher in this process, on one thread, leaves its weights in a file and returns what it is worth."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    teacher = build(data.num_classes).train()
    optimizer = _optimizer(teacher)
    steps = images // RECIPE["batch_size"]
    low, high = RECIPE["momentum"]
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RECIPE["learning_rate"], total_steps=steps, base_momentum=low, max_momentum=high
    )
    began = time.process_time()
    for step, (batch, labels) in enumerate(islice(_endless_batches(data), steps), 1):
        loss = _train_step(teacher, optimizer, batch, labels)
        cycle.step()
        if step % 100 == 0:
            print(f"teacher: step {step:,} of {steps:,}, loss {loss:.3f}", flush=True)
    seconds = time.process_time() - began
    torch.save(teacher.state_dict(), path)
    return {"steps": steps, "cpu_seconds": round(seconds, 1), **_scored(teacher.eval(), data)}


def _endless_batches(data: PreparedData) -> Iterator[tuple[Tensor, Tensor]]:
    for epoch in count():
        yield from training_batches(data.train, batch_size=RECIPE["batch_size"], epoch=epoch)


def _optimizer(teacher: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        teacher.parameters(), lr=RECIPE["learning_rate"], momentum=RECIPE["momentum"][1], nesterov=True,
        weight_decay=RECIPE["weight_decay"],
    )  # fmt: skip


def _train_step(teacher: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    optimizer.zero_grad(set_to_none=True)
    loss = cross_entropy(logits_of(teacher, images), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


@torch.inference_mode()
def _scored(teacher: nn.Module, data: PreparedData) -> dict[str, float]:
    logits = torch.cat([logits_of(teacher, images) for images, _ in batches(data.val, batch_size=250)])
    labels = torch.from_numpy(data.val.labels)
    return {
        "validation_error": round(float((logits.argmax(1) != labels).float().mean()), 4),
        "validation_cross_entropy": round(float(cross_entropy(logits, labels)), 4),
    }


class TaughtStep(SupernetStep):
    """A step of one network that learns a teacher's probabilities and never sees the true labels."""

    def __init__(self, supernet: Supernet, config: SupernetConfig, processes: Processes, teacher: nn.Module) -> None:
        super().__init__(supernet, config, processes)
        self._teacher = teacher

    def _gradients(self, networks: Sequence[ArchConfig], images: Tensor, labels: Tensor) -> Tensor:
        (network,) = networks
        with torch.no_grad():
            soft = logits_of(self._teacher, images)
        loss = soft_cross_entropy(self._logits(images, network), soft)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


def seconds_of(teacher: nn.Module, data: PreparedData, times: PassTimes) -> dict[str, float]:
    """Returns what the teacher's pass over a batch, and a step of its own training, take in the seconds of `PassTimes`.

    Those are of an idle core, and the machine may be busy now: passes of the supernet, the teacher and its training
    take turns, and what the supernet's should have taken sets the measure for all.
    """
    torch.set_num_threads(1)
    archs = StratifiedSampler(SPACE, BUDGET).sample_many(np.random.default_rng(1), TIMED_NETWORKS)
    supernet, learner = Supernet(bounding_shape(SPACE)).train(), build(data.num_classes).train()
    optimizer = _optimizer(learner)
    stream = training_batches(data.train, batch_size=times.batch_size)
    taken = np.full((ROUNDS, len(archs), 3), np.inf)
    for turn in range(ROUNDS):
        for at, arch in enumerate(archs):
            images, labels = next(stream)
            clock = [time.process_time()]
            cross_entropy(supernet(images, arch), labels).backward()  # type: ignore[no-untyped-call]
            clock.append(time.process_time())
            with torch.no_grad():
                logits_of(teacher, images)
            clock.append(time.process_time())
            _train_step(learner, optimizer, images, labels)
            clock.append(time.process_time())
            taken[turn, at] = np.diff(clock)
    passes, forward, training = taken[1:].min(axis=0).mean(axis=0)  # the first round builds the networks
    idle = float(np.mean([times.seconds(arch) for arch in archs])) / passes
    return {"pass": float(forward * idle), "training_step": float(training * idle)}
