"""The table of networks trained one by one, from scratch: what a supernet's word on them is compared with."""

from __future__ import annotations

import json
import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from ranking.setting import PROXY, REPEATED, networks

from sret_nas.arch import ArchConfig
from sret_nas.cost import cost_of
from trials.jobs import TrialJob

Line = dict[str, Any]


def read_lines(path: Path) -> list[Line]:
    """The trainings on record, without the header."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line in map(json.loads, text.splitlines()) if "number" in line]


def train_all(path: Path, data_dir: Path, data_digest: str, header: Line, seeds: int, workers: int) -> None:
    """Trains what the table lacks and appends a JSON line for each as it ends.

    Every network is trained with seed 0, those of `REPEATED` with `seeds` of them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _append(path, header)
    done = {(line["number"], line["seed"]) for line in read_lines(path)}
    left = [run for run in runs(seeds) if run not in done]
    archs = networks()
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {
            pool.submit(_train, archs[number], seed, data_dir, data_digest): (number, seed) for number, seed in left
        }
        for count, future in enumerate(as_completed(futures), 1):
            number, seed = futures[future]
            line = {"number": number, "seed": seed, **future.result()}
            _append(path, line)
            print(
                f"[{count}/{len(left)}] network {number} seed {seed}: {line['flops'] / 1e6:.2f} M FLOPs, "
                f"error {line['error']:.2%}, cross-entropy {line['cross_entropy']:.4f}, {line['seconds']} s",
                flush=True,
            )


def runs(seeds: int) -> list[tuple[int, int]]:
    """Networks and seeds in an order in which every beginning is spread over cost, and has repeats."""
    order = random.Random(0).sample(range(len(networks())), len(networks()))
    return [(number, seed) for number in order for seed in range(seeds if number in REPEATED else 1)]


def _train(arch: ArchConfig, seed: int, data_dir: Path, data_digest: str) -> Line:
    """Trains one network as a trial of a search would, in this process, on one thread."""
    from trials.worker import run_job  # torch, which the driver does not need

    job = TrialJob(
        arch=arch, proxy=PROXY, data_dir=str(data_dir), data_digest=data_digest, device="cpu", seed=seed,
        depth_schedule="full", threads=1,
    )  # fmt: skip
    result = run_job(job.model_dump(mode="json"))
    cost = cost_of(arch)
    return {
        "arch_id": arch.arch_id, "architecture": arch.to_dict(), "flops": cost.flops, "params": cost.params,
        "error": result["error"], "cross_entropy": result["cross_entropy"], "train_loss": result["train_loss"],
        "seconds": round(result["seconds"], 1),
    }  # fmt: skip


def _append(path: Path, line: Line) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
