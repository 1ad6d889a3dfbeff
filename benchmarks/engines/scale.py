"""What a search's bookkeeping costs as it grows: asking, telling and recording, at up to 10,000 finished trials.

    python -m benchmarks.engines.scale [--trials 10000] [--only additive random nsga2]

A search of sret_tiny at 1 GFLOPs with four trials in flight, in which nothing is trained: labels are a planted sum over
a network's choices and noise. Everything else is a search's own: the strategy, the records (every event synced to disk)
and the Optuna journal. Times are of the last tenth of the trials so far, so that a strategy that proposes many at once
is seen to do so; both of the wall clock, where a busy machine counts, and of the processor, on one thread, where it
counts little. Memory is resident memory above what it was before the first ask, imports and tables included there.
Each strategy is a process of its own. Writes results/scale.json and scale.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from benchmarks.machine import describe_machine
from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.files import write_atomically
from sret_nas.space.search_space import SearchSpace
from trials.engines.results import TargetCost, TrialResult
from trials.runs.objectives import Objective, objective_values
from trials.runs.optuna_journal import OptunaJournal
from trials.runs.pareto_archive import ParetoArchive
from trials.runs.records import HEADER_KEYS, Records
from trials.runs.trial import Trial
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate, Strategy

RESULTS = Path(__file__).resolve().parents[1] / "results"
STRATEGIES = ("additive", "random", "nsga2")
OBJECTIVES: tuple[Objective, ...] = ("error", "flops")
IN_FLIGHT = 4
SEED = 0
NOISE = 0.003
AIM_MS, AIM_MB = 10.0, 200.0
STEPS = ("ask", "tell", "record", "journal", "front")


class Planted:
    """The label of a network: a sum over its choices, less for larger networks, and noise of its own."""

    def __init__(self, domain: SReTDomain) -> None:
        rng = np.random.default_rng(SEED)
        self._domain = domain
        self._effects = [
            np.sum(
                [
                    0.01 * rng.standard_normal(stage.num_levels[column])[stage.levels[:, column]]
                    for column in range(stage.levels.shape[1])
                ],
                axis=0,
            )
            for stage in domain.chain.stages
        ]
        self._noise = np.random.default_rng(SEED + 1)

    def result(self, candidate: Candidate) -> TrialResult:
        point, cost = self._domain.point(candidate), cost_of(candidate.arch)
        effect = sum(float(table[choice]) for table, choice in zip(self._effects, point, strict=True))
        error = 0.5 - 0.1 * np.log(cost.flops / 1e9) + effect + NOISE * self._noise.standard_normal()
        error = float(np.clip(error, 0.0, 1.0))
        target = TargetCost(flops=cost.flops, params=cost.params, image_size=224, classes=1000)
        return TrialResult(
            error=error, cross_entropy=3 * error, error_by_depth=[error], val_images=1000, train_loss=1.0,
            train_steps=100, train_images=1000, train_seconds=1.0, seconds=2.0, target=target,
            proxy=target, proxy_arch=candidate.arch.model_copy(), device="cpu", peak_memory_mb=500.0,
        )  # fmt: skip


class Stopwatch:
    """Seconds of every step, by the wall clock and by the processor, trial by trial."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = defaultdict(list)
        self.processor: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        wall, processor = time.perf_counter(), time.process_time()
        yield
        self.wall[step].append(time.perf_counter() - wall)
        self.processor[step].append(time.process_time() - processor)

    def describe(self, step: str, trials: int) -> dict[str, float]:
        """Returns milliseconds per trial, of the last tenth of so many."""
        found: dict[str, float] = {}
        for name, seconds in (("wall", self.wall), ("processor", self.processor)):
            last = 1000 * np.array(seconds[step][trials - max(trials // 10, 20) : trials])
            found |= {f"{name}_mean_ms": round(float(last.mean()), 3)}
            found |= {f"{name}_p95_ms": round(float(np.percentile(last, 95)), 3)}
            found |= {f"{name}_longest_ms": round(float(last.max()), 1)}
        return found


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Bookkeeping:
    """A search without trials: what a driver does for each of them, as `trials.search.trial_loop` does it."""

    def __init__(self, run_dir: Path, strategy: Strategy[Candidate], domain: SReTDomain) -> None:
        self._strategy, self._domain, self._planted = strategy, domain, Planted(domain)
        self._records = Records(run_dir)
        self._history = self._records.start({key: {} for key in HEADER_KEYS} | {"command": []})
        self._journal = OptunaJournal(run_dir, domain, OBJECTIVES)
        self._front = ParetoArchive(OBJECTIVES)
        self._in_flight: deque[Trial] = deque()
        self.watch = Stopwatch()

    def end_another(self) -> None:
        """Asks until enough are in flight, then ends the oldest."""
        while len(self._in_flight) < IN_FLIGHT:
            self._ask()
        trial = self._in_flight.popleft()
        trial.result = self._planted.result(trial.candidate)
        with self.watch.of("record"):
            self._records.ended(trial.number, trial.result, None, 2.0)
        with self.watch.of("front"):
            self._front.add(trial)
        with self.watch.of("journal"):
            self._journal.add(trial)
        with self.watch.of("tell"):
            self._strategy.tell(trial.candidate, objective_values(trial.result, OBJECTIVES))

    def _ask(self) -> None:
        with self.watch.of("ask"):
            candidate = self._strategy.ask()
        assert candidate is not None
        number, cost = len(self._history.trials), cost_of(candidate.arch)
        with self.watch.of("ask record"):
            self._records.asked(number, candidate, cost.flops, cost.params, None, self._strategy.origin)
        self._history.trials[number] = Trial(number, candidate, self._strategy.origin)
        self._in_flight.append(self._history.trials[number])


def measure(name: Any, trials: int) -> dict[str, Any]:
    """Measures one strategy, in this process."""
    domain = SReTDomain(SearchSpace.load("sret_tiny"), Budget(flops_max=10**9))
    strategy = create_strategy(name, domain, OBJECTIVES, seed=SEED, population=20)
    rows = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("SCALE_DIR")) as folder:
        search = Bookkeeping(Path(folder) / "run", strategy, domain)
        domain.candidate(domain.point(domain.draw(np.random.default_rng(0))))  # tables are there from here on
        start = resident_mb()
        for number in range(1, trials + 1):
            search.end_another()
            if number in (100, 1000, 10_000, trials):
                steps = {step: search.watch.describe(step, number) for step in sorted(search.watch.wall)}
                rows.append({"trials": number, "memory_mb": round(resident_mb() - start, 1), **steps})
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return {"strategy": name, "start_mb": round(start, 1), "rows": rows}


def markdown(result: dict[str, Any]) -> str:
    machine = result["machine"]
    lines = [
        "# What the bookkeeping of a search costs",
        "",
        f"`python -m benchmarks.engines.scale`, {machine['date']}, {machine['cores']} cores ({machine['cpu']}), one "
        f"used. Load when it ended: {result['load']}.",
        "",
        "Milliseconds per trial, mean / 95th percentile of the last tenth of the trials: of the processor, and in "
        f"brackets the mean by the wall clock. Aims: asking and recording {AIM_MS:g} ms each, {AIM_MB:g} MB.",
        "",
        "| strategy | trials | ask | longest ask | tell | asked, recorded | ended, recorded | journal | front | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for found in result["strategies"]:
        for row in found["rows"]:
            cells = [_cell(row[step]) for step in ("ask", "tell", "ask record", "record", "journal", "front")]
            cells.insert(1, f"{row['ask']['processor_longest_ms']:.0f}")
            told = [found["strategy"], f"{row['trials']:,}", *cells, f"{row['memory_mb']:.0f}"]
            lines.append(f"| {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, float]) -> str:
    return f"{row['processor_mean_ms']:.2f} / {row['processor_p95_ms']:.2f} ({row['wall_mean_ms']:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--only", nargs="+", choices=STRATEGIES, default=STRATEGIES, help="default: all")
    parser.add_argument("--one", choices=STRATEGIES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.trials)))
        return
    found = []
    for name in given.only:
        command = [sys.executable, __file__, "--one", name, "--trials", str(given.trials)]
        found.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
        load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
        machine = describe_machine("optuna", "numpy")
        result = {"machine": machine, "load": load, "seed": SEED, "in_flight": IN_FLIGHT, "strategies": found}
        write_atomically(given.out / "scale.json", json.dumps(result, indent=1) + "\n")
        write_atomically(given.out / "scale.md", markdown(result))


if __name__ == "__main__":
    main()
