"""Networks of 108 and of 1,000 block applications: built, costed, run, and trained for some steps.

Run `python -m benchmarks.very_deep` from the repository's root; it writes `benchmarks/results/very_deep.json`. Every
training runs in a process of its own, because the memory of a process is measured at its peak. Images and labels are
random, and all steps see the same ones: the loss shows that gradients reach all weights, not what a network learns.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.machine import describe_machine
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.parts import StageConfig, StemConfig
from sret_nas.arch.presets import preset
from sret_nas.files import write_atomically
from sret_nas.nn.network import SReT

RESULT = Path(__file__).parent / "results" / "very_deep.json"
STEPS, BATCH, SEED, LEARNING_RATE = 5, 4, 0, 5e-4


def thousand() -> ArchConfig:
    """Returns a network of 125 blocks in three stages, each applied 8 times, for images of 32 pixels."""
    stages = tuple(
        StageConfig(
            width=width, heads=heads, blocks=blocks, recursions=8, groups=(groups,) * 8, nll="last", mlp_ratio=2.0
        )
        for width, heads, blocks, groups in ((32, 2, 25, 4), (64, 4, 62, 2), (128, 8, 38, 1))
    )
    return ArchConfig(stages=stages, stem=StemConfig(width=16, strides=(2, 1, 1)), image_size=32, classes=10)


NETWORKS = {
    "sret_deep_108": preset("sret_deep_108").model_copy(update={"image_size": 112, "classes": 10}),
    "1,000 applications": thousand(),
}


def main() -> None:
    lines = []
    for name, arch in NETWORKS.items():
        for checkpointing in (False, True):
            # A new process each time: the peak of a process never falls.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                line = pool.submit(measure, name, arch.to_dict(), checkpointing).result()
            lines.append(line)
            print(line, flush=True)
    setting = {"steps": STEPS, "batch_size": BATCH, "seed": SEED, "learning_rate": LEARNING_RATE, "threads": 1}
    content = {**describe_machine("torch"), **setting, "trainings": lines}
    write_atomically(RESULT, json.dumps(content, indent=2) + "\n")


def measure(name: str, described: dict[str, Any], checkpointing: bool) -> dict[str, Any]:
    """Builds a network, costs it, runs it on one image, and trains it.

    Returns seconds of CPU time, which other work on the machine hardly changes, megabytes, and losses.
    """
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    arch = ArchConfig.from_dict(described)
    started = time.process_time()
    cost = cost_of(arch)
    costed = time.process_time()
    network = SReT(arch)
    built = time.process_time()
    images = torch.randn(BATCH, arch.channels, arch.image_size, arch.image_size)
    with torch.inference_mode():
        logits = network.eval()(images[:1])
    ran = time.process_time()
    network.train().set_grad_checkpointing(checkpointing)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    before, losses, seconds = _peak_megabytes(), [], []
    for _ in range(STEPS):
        begun = time.process_time()
        loss = F.cross_entropy(network(images), torch.arange(BATCH) % arch.classes)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(round(loss.item(), 4))
        seconds.append(time.process_time() - begun)
    return {
        "network": name,
        "gradient_checkpointing": checkpointing,
        "applications": sum(stage.blocks * stage.recursions for stage in arch.stages),
        "image_size": arch.image_size,
        "flops": cost.flops,
        "params": cost.params,
        "weights": sum(parameter.numel() for parameter in network.parameters()),
        "seconds_to_cost": round(costed - started, 4),
        "seconds_to_build": round(built - costed, 2),
        "seconds_of_one_image": round(ran - built, 2),
        "logits_are_finite": bool(logits.isfinite().all()),
        "seconds_per_step": round(sorted(seconds)[STEPS // 2], 2),
        "training_megabytes": round(_peak_megabytes() - before),
        "losses": losses,
        "weights_without_gradient": sum(parameter.grad is None for parameter in network.parameters()),
    }


def _peak_megabytes() -> float:
    """Returns the most memory that this process has had so far, in 10^6 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
