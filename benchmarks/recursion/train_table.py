"""Trains cost-stratified architectures of sret_tiny from scratch on CIFAR-10: a table to test strategies and models on.

    python -m benchmarks.recursion.train_table --data path/to/cifar10 [--networks 60] [--repeats 13]

Every network is trained with one short recipe (the depth schedule `full`), the first `--repeats` of them with a second
seed too, which measures the noise of a label. Writes one JSON line per training to
results/recursion_table.jsonl as it ends, and carries on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.space.search_space import SearchSpace
from trials.data import DataConfig, prepare
from trials.engines.jobs import ScratchTrialJob
from trials.training.recipe import ProxyConfig, TrainingConfig
from trials.worker.entry import JobRunner

RESULT = Path(__file__).resolve().parent.parent / "results" / "recursion_table.jsonl"
PROXY = ProxyConfig(image_size=40, training=TrainingConfig(images=20_000, batch_size=64, learning_rate=2e-3))
NUM_VAL = 5_000


def networks_of_table(number: int) -> list[ArchConfig]:
    """Returns the networks of the table: those it has by their numbers, then new draws,
    cost-stratified over the space."""
    known = {line["number"]: ArchConfig.from_dict(line["architecture"]) for line in table_lines()}
    strata = StratifiedSampler(SearchSpace.load("sret_tiny"), Budget())
    fresh = iter(strata.sample_many(np.random.default_rng(len(known)), number))
    return [known[position] if position in known else next(fresh) for position in range(number)]


def runs(networks: int, repeats: int) -> Iterator[tuple[int, int, ArchConfig]]:
    """Yields number, seed and network of every training. Repeats come between, so that an early stop leaves both."""
    for number, arch in enumerate(networks_of_table(networks)):
        yield number, 0, arch
        if number < repeats:
            yield number, 1, arch


def table_lines() -> list[dict[str, Any]]:
    """Returns the trainings on record, without the header."""
    lines = RESULT.read_text().splitlines() if RESULT.exists() else []
    return [line for line in map(json.loads, lines) if "number" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 as a folder of class folders in train and val")
    parser.add_argument("--prepared", default="runs/prepared-data/recursion-table", help="where decoded images lie")
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=13)
    given = parser.parse_args()
    config = DataConfig(source=given.data, image_size=PROXY.image_size, max_val=NUM_VAL)
    directory = Path(given.prepared).absolute()
    data = prepare(config, directory)
    if not RESULT.exists():
        header = {**describe_machine("torch", "numpy"), "data": data.summary(), "proxy": PROXY.model_dump(mode="json")}
        RESULT.write_text(json.dumps(header) + "\n")
    done = {(line["number"], line["seed"]) for line in table_lines()}
    run_job = JobRunner()
    for number, seed, arch in runs(given.networks, given.repeats):
        if (number, seed) in done:
            continue
        job = ScratchTrialJob(
            arch=arch, proxy=PROXY, data_dir=str(directory), data_digest=data.digest, device="cpu", seed=seed,
            depth_schedule="full",
        )  # fmt: skip
        result: dict[str, Any] = run_job(job.model_dump(mode="json"))
        line = {
            "number": number, "seed": seed, "arch_id": arch.arch_id, "architecture": arch.to_dict(),
            "flops": result["target"]["flops"], "params": result["target"]["params"],
            "error": result["error"], "cross_entropy": result["cross_entropy"],
            "train_loss": result["train_loss"], "seconds": round(result["seconds"], 1),
        }  # fmt: skip
        with RESULT.open("a") as table:
            table.write(json.dumps(line) + "\n")
        print(number, seed, line["flops"], line["error"], line["seconds"], flush=True)


if __name__ == "__main__":
    main()
