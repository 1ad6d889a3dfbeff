"""How long the pieces take: a few steps and scores are timed, in CPU seconds of one thread."""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table as Shown

from benchmarks.machine import describe_machine
from benchmarks.recorded import RESULTS
from benchmarks.sret_bench.precision import CASES
from benchmarks.sret_bench.setting import Setting
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.files import write_atomically
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from sret_nas.space.supernet_shape import bounding_shape
from trials.data import PreparedData, training_batches
from trials.training.devices import compute_with
from trials.training.precision import passes_in
from trials.training.recipe import proxy_arch
from trials.training.train import score

TIMED_NETWORKS, ROUNDS = 16, 3
SPEED = "sret_bench_speed.json"
"""The file of speeds in results/."""


def print_plan(setting: Setting, work: Path, results: Path = RESULTS) -> None:
    """Measures speeds, writes them to `results`, and prints the core-hours of every piece, from its first step on."""
    compute_with(1)
    data = setting.prepared(work / "data")
    proxy = setting.proxy(setting.supernet_images)

    def adapted(arch: ArchConfig) -> ArchConfig:
        return proxy_arch(arch, proxy, channels=data.channels, classes=data.num_classes)

    strata = StratifiedSampler(setting.space, Budget()).sample_many(np.random.default_rng(3), TIMED_NETWORKS)
    low, high = setting.cost_range
    trained = StratifiedSampler(setting.space, Budget(flops_min=low, flops_max=high))
    scratch = [adapted(arch) for arch in trained.sample_many(np.random.default_rng(3), TIMED_NETWORKS)]
    supernet = Supernet(bounding_shape(setting.space, adapted=adapted))
    step = _step_seconds(setting, data, supernet, [adapted(arch) for arch in strata]) / setting.batch_size
    networks = [SReT(arch) for arch in scratch]
    own = fmean(_step_seconds(setting, data, network, [None]) for network in networks) / setting.batch_size
    started = time.process_time()
    for arch in strata:
        score(supernet.extract(adapted(arch)), data.val, setting.score_batch_size, precision=setting.precision)
    scored = (time.process_time() - started) / len(strata)
    supernets = len(setting.supernet_seeds)
    number = setting.num_costs * 3
    rows = {
        f"{supernets} supernets of {setting.supernet_images:,} images": supernets * setting.supernet_images * step,
        f"{supernets} x {setting.num_stratified + setting.num_in_window:,} scores on {len(data.val):,} images": (
            supernets * (setting.num_stratified + setting.num_in_window) * scored
        ),
        f"{number} trainings of {setting.lengths[-1]:,} images": number * setting.lengths[-1] * own,
        f"{number} short trainings of {sum(setting.short_lengths):,}": number * sum(setting.short_lengths) * own,
        f"{setting.num_repeated} trainings with a second seed": setting.num_repeated * setting.lengths[-1] * own,
        "precision": 3 * setting.precision_images * step + len(CASES) * setting.precision_networks * scored,
    }
    table = Shown("piece", "core-hours")
    for name, seconds in rows.items():
        table.add_row(name, f"{seconds / 3600:.2f}")
    table.add_row("all", f"{sum(rows.values()) / 3600:.1f}")
    speed = {
        "supernet_images_per_second": round(1 / step, 1),
        "scratch_images_per_second": round(1 / own, 1),
        "seconds_per_score": round(scored, 3),
    }
    content = {
        **describe_machine("torch"),
        **speed,
        "core_hours": {name: round(s / 3600, 2) for name, s in rows.items()},
    }
    write_atomically(results / SPEED, json.dumps(content, indent=1) + "\n")
    console = Console()
    console.print(f"{1 / step:.0f} images/s in a supernet, {1 / own:.0f} from scratch; {scored:.2f} s a score")
    console.print(table)


def _step_seconds(
    setting: Setting, data: PreparedData, network: torch.nn.Module, archs: list[ArchConfig] | list[None]
) -> float:
    """Returns the CPU seconds of a training step: the least of some rounds for each subnet, averaged over subnets."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    stream = training_batches(data.train, batch_size=setting.batch_size)
    seconds = np.empty((ROUNDS, len(archs)))
    network.train()
    for turn in range(ROUNDS):
        for position, arch in enumerate(archs):
            started = time.process_time()
            images, labels = next(stream)
            with passes_in(setting.precision, torch.device("cpu")):
                logits = network(images) if arch is None else network(images, arch)
            F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds[turn, position] = time.process_time() - started
    return float(seconds.min(axis=0).mean())
