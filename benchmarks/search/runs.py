"""One search of one problem by one strategy under one seed, and the file that remembers those that are done."""

from __future__ import annotations

import json
import lzma
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.search.problems import Problem, problem_of
from trials.strategies.additive import AdditiveStrategy
from trials.strategies.additive_settings import AdditiveSettings
from trials.strategies.create import create_strategy
from trials.strategies.strategy import Strategy, StrategyName

Line = dict[str, Any]
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Entry:
    """A strategy as it enters the comparison; `pending` candidates run while the next is asked for."""

    strategy: StrategyName | Literal["qlognehvi", "parego"]
    population: int = 20
    pending: int = 1
    is_past: bool = False
    """Whether it is a strategy of earlier code: it is on record, and cannot be run any more."""

    @property
    def start(self) -> int:
        """Evaluations before the first that the method itself decides; up to them it is its start and nothing
        else."""
        if self.strategy in ("random", "stratified"):
            return 0
        return self.population if self.strategy != "additive" else min(self.population, AdditiveSettings().max_start)

    def create(self, problem: Problem, seed: int) -> Strategy[Any]:
        """Returns a new strategy for a problem."""
        if self.strategy == "qlognehvi":
            from benchmarks.search.botorch import QLogNEHVIStrategy  # an extra, imported only where it is compared

            return QLogNEHVIStrategy(problem.domain, problem.objectives, seed, self.population)
        if self.strategy == "parego":
            from benchmarks.search.smac import ParEGOStrategy  # an extra, too

            return ParEGOStrategy(problem.domain, problem.objectives, seed, self.population)
        return create_strategy(
            self.strategy, problem.domain, problem.objectives, seed=seed, population=self.population
        )  # fmt: skip


ENTRIES: dict[str, Entry] = {
    "random": Entry("random"),
    "nsga2-20": Entry("nsga2", 20),
    "nsga2-50": Entry("nsga2", 50),
    "tpe": Entry("tpe"),
    "stratified": Entry("stratified"),
    "nsga2-design": Entry("nsga2_design"),
    "gp": Entry("gp"),
    "gp-design": Entry("gp_design"),
    "qlognehvi": Entry("qlognehvi", 12),
    "parego": Entry("parego", 12),
    "evolution": Entry("evolution"),
    "additive": Entry("additive"),
    "additive-before": Entry("additive", is_past=True),  # before 28 November 2026
    "additive-8": Entry("additive", pending=8),
}
"""The strategies compared, by the names that tables show."""


def search(name: str, entry_name: str, seed: int, evaluations: int, shared: Path) -> Line:
    """Runs a search of at most `evaluations`, or of as many as the problem has.

    The line holds true values, costs and, where labels are noisy, told values and what a model says of them, in the
    order of asking, and the processor seconds that all calls of ask and tell took. Lines of before 30 November 2026
    have seconds by the clock instead, and some have none.
    """
    return run_search(problem_of(name, shared), entry_name, seed, evaluations)


def run_search(problem: Problem, entry_name: str, seed: int, evaluations: int) -> Line:
    """Runs a search of a problem, as `search` does."""
    entry = ENTRIES[entry_name]
    number = num_evaluations(problem, evaluations)
    strategy = entry.create(problem, seed)
    asked: list[Any] = []
    running: deque[Any] = deque()
    seconds = 0.0
    while len(asked) < number or running:
        started = time.process_time()
        if len(asked) < number and len(running) < entry.pending:
            candidate = strategy.ask()
            seconds += time.process_time() - started
            asked.append(candidate)
            running.append(candidate)
            continue
        candidate = running.popleft()
        values = problem.told(candidate, seed), float(problem.cost(candidate))
        started = time.process_time()
        strategy.tell(candidate, values)
        seconds += time.process_time() - started
    members = {} if problem.domain.members is None else {"members": len(problem.domain.members)}
    told = {"told": [round(problem.told(candidate, seed), 4) for candidate in asked]} if problem.noise else {}
    if problem.noise and isinstance(strategy, AdditiveStrategy):
        estimated = strategy.estimated()
        told["estimated"] = [round(estimated[candidate.key][0], 4) for candidate in asked]
    return {
        "problem": problem.name,
        "strategy": entry_name,
        "seed": seed,
        "seconds": round(seconds, 3),
        "values": [round(problem.value(candidate), 4) for candidate in asked],
        "costs": [problem.cost(candidate) for candidate in asked],
        **members,
        **told,
    }


def key_of(line: Line) -> Key:
    return line["problem"], line["strategy"], line["seed"]


def num_evaluations(problem: Problem, most: int) -> int:
    """Returns how long a search of the problem is: never longer than its last checkpoint, or than its table."""
    members = problem.domain.members
    return min(most, problem.checkpoints[-1], *([] if members is None else [len(members)]))


def is_current(line: Line, evaluations: int, shared: Path) -> bool:
    """Returns whether the same search would be as long, of the same problem: a table may have grown since."""
    problem = problem_of(line["problem"], shared)
    members = problem.domain.members
    is_same = line.get("members") == (None if members is None else len(members))
    return is_same and len(line["values"]) == num_evaluations(problem, evaluations)


def read_lines(path: Path) -> dict[Key, Line]:
    """Returns the finished searches of a file, plain or compressed; a torn last line is ignored."""
    if not path.exists():
        return {}
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
        texts = file.read().split("\n")
    lines = map(json.loads, texts[:-1])
    return {key_of(line): line for line in lines}


def append_line(path: Path, line: Line) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def bundle(lines: Iterable[Line], path: Path) -> None:
    """Writes all searches to one compressed file, sorted, equal bytes for equal searches."""
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in sorted(lines, key=key_of))
    path.write_bytes(lzma.compress(text.encode()))
