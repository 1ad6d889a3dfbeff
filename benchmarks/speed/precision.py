"""What bf16 changes in a trial: its time, its error, and the order of networks. What products by rule save of its time.

    python -m benchmarks.speed.precision --data path/to/cifar10 [--workers 2]

Networks of `sret_tiny`, one of each stratum of log-FLOPs, are trained on a CPU as trials of a search train them: 40 px,
batches of 64, one thread. Each is trained with every seed in fp32 and in bf16, one after the other, which give a pair,
and beside them in fp32 with torch's own products. A training is timed by the CPU seconds of its process, because
machines are shared. Each pair is a JSON line in results/speed_precision.jsonl, appended when it is there; what is there
is not run again. results/speed_precision.json sums them up; `--report` writes it alone.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from statistics import fmean, median, stdev

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.ranking.metrics import tau_b
from benchmarks.recorded import RESULTS, Line, arguments, begin, header_of, images_of, read_lines, run_all
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.files import write_atomically
from sret_nas.space.search_space import SearchSpace
from trials.data import DataConfig, PreparedData, prepare
from trials.engines.jobs import ScratchTrialJob
from trials.training.recipe import Precision, ProxyConfig, TrainingConfig

PAIRS, RESULT = RESULTS / "speed_precision.jsonl", RESULTS / "speed_precision.json"
NUM_NETWORKS, SEEDS = 12, (0, 1)
BUDGET = Budget(flops_max=1_000_000_000)
PROXY = ProxyConfig(image_size=40, training=TrainingConfig(images=3_200))
WARM_UP = PROXY.model_copy(update={"training": TrainingConfig(images=128)})
VAL_IMAGES = 4_000
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
WAYS: dict[str, tuple[Precision, bool]] = {"fp32": ("fp32", True), "bf16": ("bf16", True), "usual": ("fp32", False)}
"""Ways to train, by name: the precision, and whether layers multiply by the rules of `sret_nas.nn.compute`."""


def networks() -> list[ArchConfig]:
    """Returns the networks in order of FLOPs."""
    sampler = StratifiedSampler(SearchSpace.load("sret_tiny"), BUDGET, num_strata=NUM_NETWORKS)
    drawn = sampler.sample_many(np.random.default_rng(0), NUM_NETWORKS)
    return sorted(drawn, key=lambda arch: cost_of(arch).flops)


def prepared(source: str, directory: Path) -> PreparedData:
    config = DataConfig(source=source, image_size=PROXY.image_size, max_val=VAL_IMAGES, max_test=100)
    return prepare(config, directory.absolute())


def train(given: argparse.Namespace) -> None:
    """Trains every pair that the results lack."""
    data, data_dir = images_of(given, prepared)
    begin(
        PAIRS,
        {
            **describe_machine("torch", "numpy"),
            "data": data.summary().replace(given.data, "cifar10"),
            "proxy": PROXY.model_dump(mode="json"),
        },
    )
    done = {(line["number"], line["seed"]) for line in read_lines(PAIRS)}
    left = [(number, seed) for seed in SEEDS for number in range(NUM_NETWORKS) if (number, seed) not in done]
    archs = networks()
    tasks = [(_train_pair, (number, archs[number], seed, data_dir, data.digest)) for number, seed in left]
    run_all(PAIRS, tasks, given.workers)


def _train_pair(number: int, arch: ArchConfig, seed: int, data_dir: Path, data_digest: str) -> Line:
    from benchmarks.speed.training import products  # torch, which the driver does not need
    from trials.worker.entry import JobRunner

    runner = JobRunner()

    def run(proxy: ProxyConfig, way: str) -> Line:
        precision, by_rule = WAYS[way]
        job = ScratchTrialJob(
            arch=arch, proxy=proxy, data_dir=str(data_dir), data_digest=data_digest, device="cpu", seed=seed,
            depth_schedule="full", threads=1, precision=precision,
        )  # fmt: skip
        began = time.process_time()
        with products(by_rule):
            result = runner(job.model_dump(mode="json"))
        kept = {name: result[name] for name in ("error", "cross_entropy", "train_loss")}
        return {**kept, "cpu_seconds": round(time.process_time() - began, 2)}

    line: Line = {"number": number, "seed": seed, "arch_id": arch.arch_id, "flops": cost_of(arch).flops}
    first = (number + seed) % len(WAYS)  # so that each way comes first, second and last equally often
    order = [*WAYS, *WAYS][first : first + len(WAYS)]
    for way in order:
        run(WARM_UP, way)  # imports, images and kernels, which are a worker's, not a trial's
    for way in order:
        line[way] = run(PROXY, way)
    return {**line, "load_average": round(os.getloadavg()[0], 1)}


def report() -> None:
    """Writes the report, from the committed pairs alone."""
    lines = sorted(read_lines(PAIRS), key=lambda line: (line["seed"], line["number"]))
    differences = [line["bf16"]["error"] - line["fp32"]["error"] for line in lines]
    result = {
        **header_of(PAIRS),
        "pairs": len(lines),
        "bf16_less_fp32_error": {
            "mean": fmean(differences),
            "standard_error": stdev(differences) / len(differences) ** 0.5,
        },
        "speedup": _speedup(lines, "fp32", "bf16"),
        "speedup_over_usual": {way: _speedup(lines, "usual", way) for way in PRECISIONS},
        "tau_of_precisions": {f"seed {seed}": _tau(lines, ("fp32", seed), ("bf16", seed)) for seed in SEEDS},
        "tau_of_seeds": {
            f"{first} seed 0, {second} seed 1": _tau(lines, (first, 0), (second, 1))
            for first in PRECISIONS
            for second in PRECISIONS
        },
    }
    write_atomically(RESULT, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _speedup(lines: list[Line], slow: str, fast: str) -> dict[str, float]:
    """Returns how many times as fast one way is as another, over pairs of equal network and seed."""
    ratios = [line[slow]["cpu_seconds"] / line[fast]["cpu_seconds"] for line in lines]
    return {"median": median(ratios), "least": min(ratios), "most": max(ratios)}


def _tau(lines: list[Line], first: tuple[str, int], second: tuple[str, int]) -> float:
    """Returns Kendall's tau-b between the errors of two rows of trainings, each of a precision and a seed."""
    rows = []
    for precision, seed in (first, second):
        errors = {line["number"]: line[precision]["error"] for line in lines if line["seed"] == seed}
        rows.append(np.array([errors[number] for number in sorted(errors)]))
    return round(tau_b(rows[0], rows[1]), 3)


def main() -> None:
    given = arguments(__doc__, "speed_precision", "trainings")
    if not given.report:
        train(given)
    report()


if __name__ == "__main__":
    main()
