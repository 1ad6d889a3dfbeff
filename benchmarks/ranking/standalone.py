"""The table of networks trained one by one, from scratch: what a supernet's word on them is compared with."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.ranking.setting import PROXY, REPEATED, networks
from benchmarks.recorded import Line, read_lines, run_all
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from trials.engines.jobs import ScratchTrialJob


def train_all(path: Path, data_dir: Path, data_digest: str, seeds: int, workers: int) -> None:
    """Trains what the table lacks and appends a JSON line for each as it ends.

    Every network is trained with seed 0, those of `REPEATED` with `seeds` of them.
    """
    done = {(line["number"], line["seed"]) for line in read_lines(path)}
    left, archs = [run for run in runs(seeds) if run not in done], networks()
    run_all(path, [(_train, (number, archs[number], seed, data_dir, data_digest)) for number, seed in left], workers)


def runs(seeds: int) -> list[tuple[int, int]]:
    """Returns networks and seeds in an order in which every beginning is spread over cost, and has repeats."""
    order = random.Random(0).sample(range(len(networks())), len(networks()))
    return [(number, seed) for number in order for seed in range(seeds if number in REPEATED else 1)]


def _train(number: int, arch: ArchConfig, seed: int, data_dir: Path, data_digest: str) -> Line:
    """Trains one network as a trial of a search would, in this process, on one thread."""
    from trials.worker.entry import JobRunner  # torch, which the driver does not need

    job = ScratchTrialJob(
        arch=arch, proxy=PROXY, data_dir=str(data_dir), data_digest=data_digest, device="cpu", seed=seed,
        depth_schedule="full", threads=1,
    )  # fmt: skip
    result = JobRunner()(job.model_dump(mode="json"))
    cost = cost_of(arch)
    return {
        "number": number, "seed": seed,
        "arch_id": arch.arch_id, "architecture": arch.to_dict(), "flops": cost.flops, "params": cost.params,
        "error": result["error"], "cross_entropy": result["cross_entropy"], "train_loss": result["train_loss"],
        "seconds": round(result["seconds"], 1),
    }  # fmt: skip
