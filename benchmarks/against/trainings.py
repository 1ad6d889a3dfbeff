"""One training of one network, which can be killed at any time, and its test error."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.against.networks import PlainNetwork, build, flops_of, params_of
from benchmarks.against.setting import CHANNELS, PRECISION, Setting
from benchmarks.sret_bench.tables import Table
from sret_nas.arch.config import ArchConfig
from sret_nas.nn.network import SReT
from trials.data import PreparedData
from trials.training.checkpoint import load_checkpoint, save_checkpoint
from trials.training.train import Training, recalibrate_batch_norm, score

KEY = "kind", "budget", "seed"
STEPS_AT_ONCE = 50
SCORED_AT_ONCE = 500
LATENCY_PASSES = 30


def run(
    setting: Setting, kind: str, budget: int, seed: int, found: ArchConfig | None, data: PreparedData, work: Path,
    table: Table,
) -> None:  # fmt: skip
    """Trains a network, from its last checkpoint on, and appends what it reaches on the test part to the table."""
    if (kind, budget, seed) in table.done:
        return
    network = cast(SReT, build(kind, budget, seed, setting, found))  # all that training asks of a network, others have
    precision = PRECISION[kind]
    training = Training(network, data, setting.training, "full", seed, precision)
    identity: dict[str, Any] = {
        "kind": kind, "budget": budget, "seed": seed, "recipe": setting.training.model_dump(), "data": data.digest,
        "precision": precision, "network": None if found is None else found.arch_id,
    }  # fmt: skip
    checkpoint = work / "trainings" / f"{kind.replace(' ', '-')}-{budget}-seed{seed}.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    load_checkpoint(checkpoint, training, identity, training.steps)
    cpu_seconds, saved = training.seconds, time.monotonic()
    while len(training.losses) < training.steps:
        started = time.process_time()
        training.run(len(training.losses) + STEPS_AT_ONCE)
        cpu_seconds += time.process_time() - started
        training.seconds = cpu_seconds  # a checkpoint keeps it
        if time.monotonic() - saved > setting.checkpoint_seconds:
            save_checkpoint(checkpoint, training, identity)
            saved = time.monotonic()
    if not isinstance(network, PlainNetwork):
        recalibrate_batch_norm(network, data.train, SCORED_AT_ONCE, precision=precision)
    found_score = score(network, data.test, SCORED_AT_ONCE, precision=precision)
    losses = training.losses[-max(1, len(training.losses) // 10) :]
    table.append({
        "kind": kind, "budget": budget, "seed": seed, "flops": flops_of(_bare(network), setting.image_size),
        "params": params_of(network), "test_error": round(found_score.error, 6),
        "test_cross_entropy": round(found_score.cross_entropy, 6), "train_loss": round(sum(losses) / len(losses), 5),
        "images": training.images, "precision": precision, "cpu_seconds": round(cpu_seconds, 1),
        "latency_ms": round(1e3 * latency(network, setting.image_size), 3),
    })  # fmt: skip
    checkpoint.unlink(missing_ok=True)


def _bare(network: torch.nn.Module) -> torch.nn.Module:
    return network.network if isinstance(network, PlainNetwork) else network


@torch.no_grad()
def latency(network: torch.nn.Module, image_size: int) -> float:
    """Returns CPU seconds of a pass of one image in fp32 on one thread: the least of some, for a busy machine."""
    network.eval()
    image = torch.zeros(1, CHANNELS, image_size, image_size)
    seconds = []
    for _ in range(LATENCY_PASSES):
        started = time.process_time()
        network(image)
        seconds.append(time.process_time() - started)
    return min(seconds)
