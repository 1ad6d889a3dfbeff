"""Measures by how much the driver of a search grows per trial, from 1,000 trials on.

    python -m benchmarks.faults.driver_memory [--trials 3000] [--strategy additive random] [--out DIR] [--where]

A real search loop of sret_tiny at 1 GFLOPs (`trials.search.trial_loop`: strategy, records, Optuna journal, front), in
which nothing is trained: an inline engine answers each job with a result made from the network's name. Resident memory
is read every 500 trials, and growth is the slope of a straight line through the readings from 1,000 trials on. With
`--where` the lines of code that hold what was added since 1,000 trials are printed (by tracemalloc, slower) and nothing
is written. Each strategy is a process of its own. Writes results/driver_memory.json.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from rich.console import Console

from benchmarks.machine import describe_machine
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.files import write_atomically
from trials.engines.inline import InlineEngine
from trials.engines.jobs import SupernetSource
from trials.engines.results import TargetCost, TrialResult
from trials.runs.options import SearchOptions
from trials.runs.optuna_journal import OptunaJournal
from trials.runs.records import HEADER_KEYS, Records
from trials.search.run import Run
from trials.search.trial_loop import run_trials
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate, Strategy
from trials.training.recipe import ProxyConfig, TrainingConfig

RESULTS = Path(__file__).resolve().parents[1] / "results"
STRATEGIES = ("additive", "random")
EVERY, FROM = 500, 1000
AIM_KB = 5.0
SEED = 0


def pretended(payload: dict[str, Any]) -> dict[str, Any]:
    """Returns the result of a trial job without training: an error that falls with FLOPs, and noise by name."""
    arch = ArchConfig.from_dict(payload["arch"], "job")
    cost = cost_of(arch)
    noise = int(arch.arch_id[:6], 16) / 16**6
    error = float(np.clip(0.5 - 0.1 * np.log(cost.flops / 1e9) + 0.05 * noise, 0.0, 1.0))
    target = TargetCost(flops=cost.flops, params=cost.params, image_size=224, classes=1000)
    result = TrialResult(
        error=error, cross_entropy=3 * error, error_by_depth=[error], val_images=1000, train_loss=None,
        train_steps=0, train_images=0, train_seconds=0.0, seconds=2.0, target=target, proxy=target, proxy_arch=arch,
        device="cpu", peak_memory_mb=500.0,
    )  # fmt: skip
    return result.model_dump(mode="json")


class Meter:
    """Reads the driver's memory as the strategy is asked for more."""

    def __init__(self, strategy: Strategy[Candidate], where: bool) -> None:
        self._ask, self._where = strategy.ask, where
        self._asked = 0
        self._before: tracemalloc.Snapshot | None = None
        self.megabytes: dict[int, float] = {}
        strategy.ask = self.ask  # type: ignore[method-assign]

    def ask(self) -> Candidate | None:
        candidate = self._ask()
        self._asked += 1
        if self._asked % EVERY == 0:
            self.read()
        return candidate

    def read(self) -> None:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.megabytes[self._asked] = round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 2)
        print(f"{self._asked} trials: {self.megabytes[self._asked]:.1f} MB", file=sys.stderr, flush=True)
        if self._where:
            self._tell_where()

    def _tell_where(self) -> None:
        if self._asked == FROM:
            tracemalloc.start(8)
            return
        if self._asked > FROM:
            snapshot = tracemalloc.take_snapshot()
            number = self._asked - FROM
            for statistic in snapshot.statistics("traceback")[:25]:
                print(f"{statistic.size / number:8.0f} bytes a trial", file=sys.stderr)
                print("\n".join(statistic.traceback.format()[-8:]), file=sys.stderr)


def measure(name: Any, trials: int, where: bool) -> dict[str, Any]:
    """Runs one search in this process and returns what its memory was."""
    given = {"space": "sret_tiny", "trials": trials, "seed": SEED, "strategy": name, "device": "cpu", "workers": 1}
    options = SearchOptions.parse(given, "search")
    options = options.model_copy(update={"flops_budget": 10**9})
    domain = SReTDomain(options.load_space(), options.budget)
    proxy = ProxyConfig(image_size=32, width_scale=1.0, training=TrainingConfig(images=64))
    header: dict[str, Any] = {
        **{key: {} for key in HEADER_KEYS} | {"command": []},
        "data": {"digest": "0"},
        "expected": {"trial_seconds": 1.0},
    }
    with tempfile.TemporaryDirectory() as folder, Records(Path(folder) / "run") as records:
        history = records.start(header)
        history.supernet = SupernetSource(path="supernet.safetensors", digest="0")
        run_dir, console = Path(folder) / "run", Console(file=io.StringIO())
        run = Run(run_dir, options, domain, Path("data"), proxy, records, history, console)
        strategy = create_strategy(name, domain, options.objectives, seed=SEED, population=20)
        meter = Meter(strategy, where)
        console.file = open(os.devnull, "w")  # noqa: SIM115 - what is printed must not count
        with InlineEngine(pretended) as engine:
            run_trials(run, strategy, engine, OptunaJournal(run_dir, domain, options.objectives))
        digest = records_digest(run_dir)
    late = {number: mb for number, mb in meter.megabytes.items() if number >= FROM}
    slope = np.polyfit(list(late), list(late.values()), 1)[0] * 1024 if len(late) > 1 else float("nan")
    return {"strategy": name, "megabytes": meter.megabytes, "kb_per_trial": round(float(slope), 2), "digest": digest}


def records_digest(run_dir: Path) -> str:
    """Returns a digest of the sequence of candidates, which changes of the bookkeeping must not change."""
    import hashlib

    lines = map(json.loads, (run_dir / "records.jsonl").read_bytes().splitlines())
    asked = [(line["arch_id"], line["depth_schedule"]) for line in lines if line["event"] == "asked"]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=3000, help="default: %(default)s")
    parser.add_argument("--strategy", nargs="+", choices=STRATEGIES, default=STRATEGIES, help="default: all")
    parser.add_argument("--where", action="store_true", help="print what holds the memory, and write nothing")
    parser.add_argument("--one", choices=STRATEGIES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results")
    given = parser.parse_args()
    if given.one or given.where:
        print(json.dumps(measure(given.one or given.strategy[0], given.trials, given.where)))
        return
    found = []
    for name in given.strategy:
        command = [
            sys.executable,
            "-m",
            "benchmarks.faults.driver_memory",
            "--one",
            name,
            "--trials",
            str(given.trials),
        ]
        found.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
    machine = describe_machine("optuna", "numpy", "pydantic")
    result = {"machine": machine, "seed": SEED, "aim_kb_per_trial": AIM_KB, "searches": found}
    write_atomically(given.out / "driver_memory.json", json.dumps(result, indent=1) + "\n")
    print(", ".join(f"{each['strategy']}: {each['kb_per_trial']:.1f} kB a trial" for each in found))


if __name__ == "__main__":
    main()
