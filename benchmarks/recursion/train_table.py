"""Trains cost-stratified architectures of sret_tiny from scratch on CIFAR-10: a table to test strategies and models on.

    python -m benchmarks.recursion.train_table --data path/to/cifar10 [--networks 60] [--repeats 13] [--workers 2]

Every network is trained with one short recipe (the depth schedule `full`), the first `--repeats` of them with a second
seed too, which measures the noise of a label. Each training is a JSON line in results/recursion_table.jsonl, appended
when it ends; what is there is not run again. `--anew` trains the networks of the table again, with today's code, and
replaces the table at the end.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.recorded import BENCHMARKS, RESULTS, Line, begin, header_of, read_lines, run_all
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.files import write_atomically
from sret_nas.space.search_space import SearchSpace
from trials.data import DataConfig, prepare
from trials.engines.jobs import ScratchTrialJob
from trials.training.recipe import ProxyConfig, TrainingConfig

TABLE, ANEW = RESULTS / "recursion_table.jsonl", RESULTS / "recursion_table_anew.jsonl"
PROXY = ProxyConfig(image_size=40, training=TrainingConfig(images=20_000, batch_size=64, learning_rate=2e-3))
NUM_VAL = 5_000


def networks_of_table(number: int) -> list[ArchConfig]:
    """Returns the networks of the table: those it has by their numbers, then new draws,
    cost-stratified over the space."""
    lines = read_lines(TABLE) if TABLE.exists() else []
    known = {line["number"]: ArchConfig.from_dict(line["architecture"]) for line in lines}
    strata = StratifiedSampler(SearchSpace.load("sret_tiny"), Budget())
    fresh = iter(strata.sample_many(np.random.default_rng(len(known)), number))
    return [known[position] if position in known else next(fresh) for position in range(number)]


def runs(networks: int, repeats: int) -> Iterator[tuple[int, int, ArchConfig]]:
    """Yields number, seed and network of every training. Repeats come between, so that an early stop leaves both."""
    for number, arch in enumerate(networks_of_table(networks)):
        yield number, 0, arch
        if number < repeats:
            yield number, 1, arch


def train(number: int, seed: int, arch: ArchConfig, data_dir: Path, data_digest: str) -> Line:
    """Trains one network as a trial of a search would, in this process, on one thread."""
    from trials.worker.entry import JobRunner  # torch, which the driver does not need

    job = ScratchTrialJob(
        arch=arch, proxy=PROXY, data_dir=str(data_dir), data_digest=data_digest, device="cpu", seed=seed,
        depth_schedule="full", threads=1,
    )  # fmt: skip
    result = JobRunner()(job.model_dump(mode="json"))
    return {
        "number": number, "seed": seed, "arch_id": arch.arch_id, "architecture": arch.to_dict(),
        "flops": result["target"]["flops"], "params": result["target"]["params"],
        "error": result["error"], "cross_entropy": result["cross_entropy"],
        "train_loss": result["train_loss"], "seconds": round(result["seconds"], 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 as a folder of class folders in train and val")
    parser.add_argument("--work", type=Path, default=BENCHMARKS.parent / "runs" / "recursion-table", help="for images")
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=13)
    parser.add_argument("--workers", type=int, default=2, help="trainings at once, one thread each")
    parser.add_argument("--anew", action="store_true", help="train the networks of the table again, and replace it")
    given = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    given.work.parent.mkdir(parents=True, exist_ok=True)
    data = prepare(DataConfig(source=given.data, image_size=PROXY.image_size, max_val=NUM_VAL), given.work.absolute())
    path = ANEW if given.anew else TABLE
    header = {
        **describe_machine("torch", "numpy"), "data": data.summary().replace(given.data, "cifar10"),
        "proxy": PROXY.model_dump(mode="json"),
    }  # fmt: skip
    begin(path, header)
    done = {(line["number"], line["seed"]) for line in read_lines(path)}
    left = [run for run in runs(given.networks, given.repeats) if run[:2] not in done]
    run_all(path, [(train, (*run, given.work.absolute(), data.digest)) for run in left], given.workers)
    in_order = sorted(read_lines(path), key=lambda line: (line["number"], line["seed"]))
    write_atomically(TABLE, "".join(json.dumps(line) + "\n" for line in [header_of(path), *in_order]))
    if given.anew:
        path.unlink()


if __name__ == "__main__":
    main()
