"""The inherited table: supernets, and what each says of the networks of the table."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sret_bench.setting import Setting
from benchmarks.sret_bench.tables import Table
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.feasible.stratified import StratifiedSampler
from trials.data import PreparedData
from trials.training.recipe import Precision, proxy_arch

KEY = "supernet", "number"


def networks(setting: Setting) -> list[tuple[str, ArchConfig]]:
    """Returns the networks of the table, each with the set it belongs to; their positions are their numbers.

    They are in random order, so that every beginning of the table has both sets in their proportion.
    """
    strata = StratifiedSampler(setting.space, Budget())
    low, high = setting.window
    window = FeasibleSet(setting.space, Budget(flops_min=low, flops_max=high))
    drawn = [("stratified", arch) for arch in strata.sample_many(np.random.default_rng(0), setting.num_stratified)]
    drawn += [("window", arch) for arch in window.sample_many(np.random.default_rng(1), setting.num_in_window)]
    return random.Random(0).sample(drawn, len(drawn))


def train(
    setting: Setting, seed: int, data: PreparedData, directory: Path, *, images: int, precision: Precision
) -> Path:
    """Trains a supernet, from the last checkpoint in `directory` on, and returns its file."""
    from rich.console import Console

    from trials.supernet.spec import TrainingSpec
    from trials.supernet.training import train_supernet

    config = setting.supernet_config(images, precision)
    spec = TrainingSpec(space=setting.space, budget=Budget(), proxy=setting.proxy(images), config=config, seed=seed)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "training.log").open("a", encoding="utf-8") as log:
        return train_supernet(directory, spec, data, device="cpu", threads=1, console=Console(file=log))


def fill(setting: Setting, seed: int, data: PreparedData, work: Path, table: Table) -> None:
    """Trains a supernet and scores what the table lacks of its networks; every score is on disk at once.

    Does nothing for a supernet that has ended.

    Raises `ValueError` if the table has scores of another supernet with this seed.
    """
    if seed in setting.ended:
        return
    done = table.done
    left = [(number, *network) for number, network in enumerate(networks(setting)) if (seed, number) not in done]
    if not left:
        return
    directory = work / f"supernet-{seed}"
    path = train(setting, seed, data, directory, images=setting.supernet_images, precision=setting.precision)
    score_of, digest = scorer(setting, path, data, setting.precision), digest_of_weights(path)
    others = {line["supernet_digest"] for line in table.lines if line["supernet"] == seed} - {digest}
    if others:
        raise ValueError(f"the table has scores of another supernet of seed {seed}: {others}, not {digest}")
    for number, drawn_from, arch in left:
        started = time.process_time()
        scored = score_of(arch)
        seconds = round(time.process_time() - started, 3)
        about = {"supernet": seed, "number": number, "set": drawn_from, **network_fields(arch)}
        table.append({**about, **scored, "cpu_seconds": seconds, "supernet_digest": digest})


def scorer(
    setting: Setting, supernet_file: Path, data: PreparedData, precision: Precision
) -> Callable[[ArchConfig], dict[str, float]]:
    """Returns a function that scores a network with the weights it inherits, on all validation images."""
    from sret_nas.nn.supernet import Supernet
    from trials.supernet.inherit import SubnetScorer

    supernet, _ = Supernet.load(supernet_file)
    subnets = SubnetScorer(supernet.eval(), data, setting.score_batch_size, precision=precision)
    proxy = setting.proxy(setting.supernet_images)

    def scored(arch: ArchConfig) -> dict[str, float]:
        found = subnets.score(proxy_arch(arch, proxy, channels=data.channels, classes=data.num_classes))
        return {"error": round(found.error, 6), "cross_entropy": round(found.cross_entropy, 6)}

    return scored


def digest_of_weights(supernet_file: Path) -> str:
    """Returns a digest of the weights alone: a training that is repeated has it, although it takes other seconds."""
    from sret_nas.nn.supernet import Supernet

    digest = sha256()
    for name, weight in sorted(Supernet.load(supernet_file)[0].state_dict().items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    return digest.hexdigest()[:16]


def network_fields(arch: ArchConfig) -> dict[str, Any]:
    """Returns the fields of a line that say which network it is about; costs are the target's, at 224 px."""
    cost = cost_of(arch)
    return {"arch_id": arch.arch_id, "architecture": arch.to_dict(), "flops": cost.flops, "params": cost.params}
