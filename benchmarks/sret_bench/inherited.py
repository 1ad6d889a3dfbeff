"""The inherited table: supernets, and what each says of the networks of the table."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sret_bench.setting import Setting
from benchmarks.sret_bench.tables import Line, Table
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.files import digest_of_file
from trials.data import PreparedData
from trials.training.recipe import proxy_arch

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


def train(setting: Setting, seed: int, data: PreparedData, work: Path) -> Path:
    """Trains a supernet, from its last checkpoint on, and returns its file."""
    from rich.console import Console

    from trials.supernet.spec import TrainingSpec
    from trials.supernet.training import train_supernet

    config = setting.supernet_config
    proxy = setting.proxy(setting.supernet_images)
    spec = TrainingSpec(space=setting.space, budget=Budget(), proxy=proxy, config=config, seed=seed)
    directory = work / f"supernet-{seed}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "training.log").open("a", encoding="utf-8") as log:
        return train_supernet(directory, spec, data, device="cpu", threads=1, console=Console(file=log))


def score(setting: Setting, seed: int, supernet_file: Path, data: PreparedData, table: Table) -> None:
    """Scores what the table lacks of a supernet's networks; every score is on disk at once.

    Raises `ValueError` if the table has scores of another supernet with this seed.
    """
    from sret_nas.nn.supernet import Supernet
    from trials.supernet.inherit import SubnetScorer

    digest = digest_of_file(supernet_file)
    others = {line["supernet_digest"] for line in table.lines if line["supernet"] == seed} - {digest}
    if others:
        raise ValueError(f"the table has scores of another supernet of seed {seed}: {others}, not {digest}")
    supernet, record = Supernet.load(supernet_file)
    scorer = SubnetScorer(supernet.eval(), data, setting.score_batch_size, precision=setting.precision)
    proxy, done = setting.proxy(setting.supernet_images), table.keys()
    for number, (drawn_from, arch) in enumerate(networks(setting)):
        if (seed, number) in done:
            continue
        started = time.process_time()
        found = scorer.score(proxy_arch(arch, proxy, channels=data.channels, classes=data.num_classes))
        line: Line = {
            "supernet": seed, "number": number, "set": drawn_from, **network_fields(arch),
            "error": round(found.error, 6), "cross_entropy": round(found.cross_entropy, 6),
            "cpu_seconds": round(time.process_time() - started, 3),
            "supernet_digest": digest, "supernet_images": record["images"],
        }  # fmt: skip
        table.append(line)


def network_fields(arch: ArchConfig) -> dict[str, Any]:
    """Returns the fields of a line that say which network it is about; costs are the target's, at 224 px."""
    cost = cost_of(arch)
    return {"arch_id": arch.arch_id, "architecture": arch.to_dict(), "flops": cost.flops, "params": cost.params}
