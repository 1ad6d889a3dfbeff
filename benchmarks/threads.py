"""How fast a supernet trains with one thread or all cores, by how OpenMP's threads wait, alone and beside other work.

    python -m benchmarks.threads [--rounds 3]

The digits at 40 px, batches of 64, bf16, `sret_tiny`. Every training is a process of its own, since OpenMP reads how
its threads wait when it is loaded; the ways take turns. Beside other work means one process for each core that
computes without end. Images a second are those of the steps, without start. Writes results/threads.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from sret_nas.arch.budget import Budget
from sret_nas.files import write_atomically
from sret_nas.nn.supernet import Supernet
from sret_nas.space.search_space import SearchSpace
from trials.console import Console as QuietConsole
from trials.data import DataConfig
from trials.data.dataset_cache import cached_dataset
from trials.distributed.choose_launcher import launcher_for
from trials.machine import SPIN_COUNT, num_cores
from trials.supernet.config import SupernetConfig
from trials.supernet.job import TrainingJob
from trials.training.recipe import ProxyConfig, TrainingConfig

RESULT = Path(__file__).parent / "results" / "threads.json"
IMAGE_SIZE, BATCH = 40, 64
STEPS = {"quiet": 48, "busy": 8}
"""Fewer beside other work, where the slowest way takes a minute for eight."""
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, type=int, metavar=("THREADS", "STEPS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(images_per_second(*given.one))
        return
    cores = num_cores()
    ways: dict[str, tuple[int, dict[str, str]]] = {
        "1 thread": (1, {}),
        f"{cores} threads, as OpenMP waits by default": (cores, {}),
        f"{cores} threads that wait briefly, as the command line sets it": (cores, {"GOMP_SPINCOUNT": SPIN_COUNT}),
        f"{cores} threads that sleep at once": (cores, {"OMP_WAIT_POLICY": "passive"}),
    }
    rows: list[dict[str, Any]] = []
    for load, steps in STEPS.items():
        speeds: dict[str, list[float]] = {way: [] for way in ways}
        with busy(cores if load == "busy" else 0):
            for _ in range(given.rounds):
                for way, (threads, environment) in ways.items():
                    speeds[way].append(measured(threads, steps, environment))
        for way, found in speeds.items():
            row = {
                "load": load,
                "way": way,
                "images_per_second": round(median(found)),
                "all": [round(x) for x in found],
            }
            rows.append(row)
            print(row, flush=True)
    result = {
        "seed": SEED, "rounds": given.rounds, "steps": STEPS, "batch_size": BATCH, "image_size": IMAGE_SIZE,
        "rows": rows, **describe_machine("torch"),
    }  # fmt: skip
    write_atomically(RESULT, json.dumps(result, indent=2) + "\n")
    show(rows)


@contextmanager
def busy(number: int) -> Iterator[None]:
    """Runs so many processes that compute without end."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measured(threads: int, steps: int, environment: dict[str, str]) -> float:
    """Returns the images a second of a training in a new process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-m", "benchmarks.threads", "--one", str(threads), str(steps)]
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def images_per_second(threads: int, steps: int) -> float:
    """Trains a supernet in this process."""
    console = QuietConsole(quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run.mkdir()
        data_dir, _ = cached_dataset(run, DataConfig(source="digits", image_size=IMAGE_SIZE), console)
        training = TrainingConfig(images=steps * BATCH, batch_size=BATCH, learning_rate=2e-3)
        job = TrainingJob(
            space=SearchSpace.load("sret_tiny"), budget=Budget(), seed=SEED, device="cpu", threads=threads,
            proxy=ProxyConfig(image_size=IMAGE_SIZE, training=training),
            config=SupernetConfig(training=training, precision="bf16"), data_dir=data_dir.absolute(),
        )  # fmt: skip
        with launcher_for("cpu", None) as launcher:
            counts: dict[str, Any] = Supernet.load(launcher.train(job, run, console))[1]
    return float(counts["images"] / counts["seconds"])


def show(rows: list[dict[str, Any]]) -> None:
    table = Table("machine", "training", "images/s")
    for row in rows:
        table.add_row(row["load"], row["way"], f"{row['images_per_second']:,}")
    Console().print(table)


if __name__ == "__main__":
    main()
