"""What the driver of a search does per trial on a simulated cluster: a thousand workers, some lost.

    python -m benchmarks.engines.cluster [--trials 100000] [--workers 1000] [--strategy random] [--folder /dev/shm]

The trial loop, the queue of attempts, the strategy, the records and the Optuna journal are a search's own; the engine
has workers and a clock that are made up. Trials take random times, nodes of ten workers vanish and come back, and with
each its running trials, which are run again. Nothing is trained. What is measured is the driver's processor time, the
engine's own not counted, over the last tenth of 1,000, 10,000, ... trials: it should not grow. With `--folder` on a
file system in memory, syncing the records costs nothing. Writes results/cluster_STRATEGY.json.
"""

from __future__ import annotations

import argparse
import heapq
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from rich.console import Console

from benchmarks.engines.scale import OBJECTIVES, Planted, resident_mb
from benchmarks.machine import describe_machine
from sret_nas.files import write_atomically
from sret_nas.space.search_space import SearchSpace
from trials.engines.engine import Engine, Outcome
from trials.engines.jobs import TrialJob, parse_job
from trials.engines.results import Failure
from trials.runs.options import SearchOptions
from trials.runs.optuna_journal import OptunaJournal
from trials.runs.records import HEADER_KEYS, Records
from trials.search.run import Run
from trials.search.trial_loop import run_trials
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate
from trials.training.recipe import ProxyConfig, TrainingConfig

RESULTS = Path(__file__).resolve().parents[1] / "results"
SEED = 0
SEARCHED: dict[str, Any] = {"space": "sret_tiny", "flops_budget": 10**9}
WORKERS_PER_NODE = 10
TRIAL_SECONDS = 600.0
"""The mean; times are drawn between half and twice of it, evenly in their logarithm."""
LOST_AFTER, BACK_AFTER = 50_000.0, 1000.0
"""Seconds, on average, until a node vanishes, and until another takes its place."""
MARKS = (1000, 10_000, 100_000)


class SimulatedCluster(Engine):
    """Workers on nodes, and a clock of its own. What trials find is planted; of a node that vanishes, nothing."""

    def __init__(self, domain: SReTDomain, num_workers: int) -> None:
        self._rng, self._planted = np.random.default_rng(SEED), Planted(domain)
        self._free = list(range(num_workers))
        self._num_workers = num_workers
        self._gone: set[int] = set()
        self._running: dict[int, tuple[int, TrialJob]] = {}
        """Of every busy worker, its job."""
        self._events: list[tuple[float, int, str, int]] = []
        self._num_events = 0
        self.now = 0.0
        self.num_lost = 0
        self.num_ended = 0
        self.seconds = 0.0
        """Processor time that the simulation itself took."""
        self.driver_seconds: dict[int, float] = {}
        """Processor time of everything else, when so many trials had ended."""
        for node in range(num_workers // WORKERS_PER_NODE):
            self._schedule(self._rng.exponential(LOST_AFTER), "lost", node)

    @property
    def capacity(self) -> int:
        return max(1, self._num_workers - WORKERS_PER_NODE * len(self._gone))

    def submit(self, job_id: int, payload: dict[str, Any], time_limit: float | None = None) -> None:
        with self._simulating():
            job = parse_job(payload)
            assert isinstance(job, TrialJob)
            worker = self._free.pop()
            self._running[worker] = job_id, job
            seconds = TRIAL_SECONDS * math.exp(self._rng.uniform(-math.log(2), math.log(2)))
            self._schedule(seconds, f"job {job_id}", worker)

    def wait(self) -> list[Outcome]:
        with self._simulating():
            outcomes: list[Outcome] = []
            while self._running and not outcomes:
                self.now, _, what, number = heapq.heappop(self._events)
                if what == "lost":
                    outcomes = self._lose(number)
                elif what == "back":
                    self._return(number)
                elif number in self._running and what == f"job {self._running[number][0]}":
                    outcomes = [self._finish(number)]
            return outcomes

    def _finish(self, worker: int) -> Outcome:
        job_id, job = self._running.pop(worker)
        self._free.append(worker)
        self.num_ended += 1
        result = self._planted.result(Candidate(job.arch, job.depth_schedule))
        return Outcome(job_id, result.model_dump(mode="json"))

    def _lose(self, node: int) -> list[Outcome]:
        workers = range(node * WORKERS_PER_NODE, (node + 1) * WORKERS_PER_NODE)
        self._gone.add(node)
        self._free = [worker for worker in self._free if worker not in workers]
        lost = [self._running.pop(worker)[0] for worker in workers if worker in self._running]
        self.num_lost += len(lost)
        self._schedule(self._rng.exponential(BACK_AFTER), "back", node)
        failure = Failure(cause="worker died", message=f"node {node} was lost")
        return [Outcome(job_id, failure=failure) for job_id in lost]

    def _return(self, node: int) -> None:
        self._gone.remove(node)
        self._free += range(node * WORKERS_PER_NODE, (node + 1) * WORKERS_PER_NODE)
        self._schedule(self._rng.exponential(LOST_AFTER), "lost", node)

    def _schedule(self, seconds: float, what: str, number: int) -> None:
        self._num_events += 1
        heapq.heappush(self._events, (self.now + seconds, self._num_events, what, number))

    @contextmanager
    def _simulating(self) -> Iterator[None]:
        began = time.process_time()
        self.driver_seconds.setdefault(self.num_ended, began - self.seconds)
        yield
        self.seconds += time.process_time() - began

    def close(self) -> None:
        self._running.clear()


def searched(engine: SimulatedCluster, domain: SReTDomain, folder: Path, given: argparse.Namespace) -> Run:
    """Runs a whole search on the simulated cluster."""
    asked = {"trials": given.trials, "workers": given.workers, "strategy": given.strategy, "seed": SEED}
    options = SearchOptions.parse({**SEARCHED, "no_supernet": True, "device": "cpu", **asked}, "search")
    proxy = ProxyConfig(image_size=32, width_scale=1.0, training=TrainingConfig(images=64))
    expected = {"trial_seconds": TRIAL_SECONDS, "final_seconds": TRIAL_SECONDS}
    header: dict[str, Any] = {
        **{key: {} for key in HEADER_KEYS} | {"command": []},
        "data": {"digest": "0"},
        "expected": expected,
    }
    strategy = create_strategy(given.strategy, domain, OBJECTIVES, seed=SEED, population=20)
    with Records(folder / "run") as records:
        run = Run(
            folder / "run", options, domain, Path("data"), proxy, records, records.start(header),
            Console(file=io.StringIO(), width=200),
        )  # fmt: skip
        run_trials(run, strategy, engine, OptunaJournal(run.run_dir, domain, OBJECTIVES))
    return run


def rows_of(engine: SimulatedCluster, trials: int) -> list[dict[str, Any]]:
    """Returns milliseconds per trial over the last tenth of so many."""
    rows = []
    for mark in (*(mark for mark in MARKS if mark < trials), trials - 1):
        first = mark - max(mark // 10, 1)
        spent = engine.driver_seconds[mark] - engine.driver_seconds[first]
        rows.append({"trials": mark, "driver_ms_per_trial": round(1000 * spent / (mark - first), 3)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--strategy", default="random", help="default: %(default)s")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the run directory lies for the while")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results")
    given = parser.parse_args()
    domain = SReTDomain(SearchSpace.load("sret_tiny"), SearchOptions.parse(SEARCHED, "search").budget)
    engine, start = SimulatedCluster(domain, given.workers), resident_mb()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        run = searched(engine, domain, Path(folder), given)
        finished = sum(trial.result is not None for trial in run.trials)
        result = {
            "machine": describe_machine("optuna", "numpy"),
            "seed": SEED,
            "strategy": given.strategy,
            "workers": given.workers,
            "records": "in memory" if str(given.folder).startswith("/dev/shm") else "on disk",
            "trials": len(run.trials),
            "finished": finished,
            "attempts_lost_with_nodes": engine.num_lost,
            "simulated_days": round(engine.now / 86400, 2),
            "memory_mb": round(resident_mb() - start, 1),
            "rows": rows_of(engine, finished),
        }
    print(json.dumps(result))
    write_atomically(given.out / f"cluster_{given.strategy}.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
