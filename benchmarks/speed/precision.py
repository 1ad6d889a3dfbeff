"""What bf16 changes in a trial: its time, its error, and the order of networks.

    python -m benchmarks.speed.precision --data path/to/cifar10 [--workers 2]

Networks of `sret_tiny`, one of each stratum of log-FLOPs, are trained on a CPU as trials of a search train them: 40 px,
batches of 64, one thread. Each is trained with every seed in fp32 and in bf16, one after the other, which give a pair.
A training is timed by the CPU seconds of its process, because machines are shared. Each pair is a JSON line in
results/speed_precision.jsonl, appended when it is there; what is there is not run again. results/speed_precision.json
sums them up; `--report` writes it alone.
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
    from trials.worker.entry import JobRunner  # torch, which the driver does not need

    runner = JobRunner()

    def run(proxy: ProxyConfig, precision: Precision) -> Line:
        job = ScratchTrialJob(
            arch=arch, proxy=proxy, data_dir=str(data_dir), data_digest=data_digest, device="cpu", seed=seed,
            depth_schedule="full", threads=1, precision=precision,
        )  # fmt: skip
        began = time.process_time()
        result = runner(job.model_dump(mode="json"))
        kept = {name: result[name] for name in ("error", "cross_entropy", "train_loss")}
        return {**kept, "cpu_seconds": round(time.process_time() - began, 2)}

    line: Line = {"number": number, "seed": seed, "arch_id": arch.arch_id, "flops": cost_of(arch).flops}
    # Every other pair begins with bf16, so that neither is always the first.
    order = PRECISIONS if (number + seed) % 2 == 0 else PRECISIONS[::-1]
    for precision in order:
        run(WARM_UP, precision)  # imports, images and kernels, which are a worker's, not a trial's
    for precision in order:
        line[precision] = run(PROXY, precision)
    return {**line, "load_average": round(os.getloadavg()[0], 1)}


def report() -> None:
    """Writes the report, from the committed pairs alone."""
    lines = sorted(read_lines(PAIRS), key=lambda line: (line["seed"], line["number"]))
    differences = [line["bf16"]["error"] - line["fp32"]["error"] for line in lines]
    speedups = [line["fp32"]["cpu_seconds"] / line["bf16"]["cpu_seconds"] for line in lines]
    result = {
        **header_of(PAIRS),
        "pairs": len(lines),
        "bf16_less_fp32_error": {
            "mean": fmean(differences),
            "standard_error": stdev(differences) / len(differences) ** 0.5,
        },
        "speedup": {"median": median(speedups), "least": min(speedups), "most": max(speedups)},
        "tau_of_precisions": {f"seed {seed}": _tau(lines, ("fp32", seed), ("bf16", seed)) for seed in SEEDS},
        "tau_of_seeds": {
            f"{first} seed 0, {second} seed 1": _tau(lines, (first, 0), (second, 1))
            for first in PRECISIONS
            for second in PRECISIONS
        },
    }
    write_atomically(RESULT, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


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
