"""One search of one entry under one seed: what it evaluated by when, in seconds of one core."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.end_to_end.recommending import best_structures, model_of, recommended_numbers
from benchmarks.end_to_end.setting import (
    BATCH_SIZE,
    BUDGET,
    BUDGETS,
    POPULATION,
    PROXY,
    SCORED_IMAGES,
    SPACE,
    Entry,
    training,
)
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.pareto import non_dominated
from trials.data import PreparedData
from trials.engines.jobs import ScratchTrialJob
from trials.runs.recommendation import max_rounds
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate
from trials.supernet.config import SupernetConfig

Line = dict[str, Any]
Evaluate = Callable[[ArchConfig], float]
"""Validation error of a network's proxy, 0 to 1."""

TRAINING_SHARE = 0.75
"""Of a search's seconds, for training its supernet; the rest is for scoring."""


def run_search(entry: Entry, seed: int, data_dir: Path) -> Line:
    """Searches until its seconds are over, in this process, on one thread. What ends later does not count."""
    import torch

    torch.set_num_threads(1)
    data = PreparedData.open(data_dir)
    domain = SReTDomain(SPACE, BUDGET)
    start = time.process_time()

    def spent() -> float:
        return time.process_time() - start

    record: Line = {"entry": entry.name, "seed": seed, "seconds": entry.seconds}
    with tempfile.TemporaryDirectory() as work:
        if entry.inherits:
            until = entry.share_of_supernet * entry.seconds
            evaluate, record["supernet"] = _inheriting(Path(work), until, seed, data, spent)
            found = _search(entry, seed, domain, _Trials(evaluate, spent), until)
            if entry.share_of_supernet < 1:
                record["supernet"]["networks"] = len(found.lines)
                found = _search_from_scratch(entry, seed, domain, data, spent, found.front(domain))
        else:
            found = _search_from_scratch(entry, seed, domain, data, spent)
    record["trials"], record["recommended"] = found.lines, found.recommended(domain)
    return shortened(record)


def shortened(search: Line) -> Line:
    """Leaves out the architectures of networks that the search does not recommend."""
    kept = set(search["recommended"])
    trials = [
        trial if number in kept else {name: value for name, value in trial.items() if name != "architecture"}
        for number, trial in enumerate(search["trials"])
    ]
    return {**search, "trials": trials}


@dataclass
class _Trials:
    """The trials of a search, and how to evaluate one more."""

    evaluate: Evaluate
    spent: Callable[[], float]
    from_scratch: bool = False
    lines: list[Line] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)

    @property
    def errors(self) -> list[float]:
        return [line["error"] for line in self.lines]

    def run(self, candidate: Candidate) -> tuple[float, float]:
        """Evaluates a candidate as one more trial, and returns its objectives."""
        arch = candidate.arch
        error, flops = self.evaluate(arch), cost_of(arch).flops
        spent = round(self.spent(), 2)
        self.lines.append({"spent": spent, "error": round(error, 6), "flops": flops, "architecture": arch.to_dict()})
        self.candidates.append(candidate)
        return error, float(flops)

    def recommended(self, domain: SReTDomain) -> list[int | None]:
        """Returns the numbers of the trials that are recommended for `BUDGETS`."""
        return recommended_numbers(domain, self.candidates, self.errors)

    def front(self, domain: SReTDomain) -> list[Candidate]:
        """Returns the networks that are recommended, and of the others on the front as many as make `POPULATION`,
        evenly spread."""
        costs = [line["flops"] for line in self.lines]
        chosen = dict.fromkeys(number for number in self.recommended(domain) if number is not None)
        best = np.flatnonzero(non_dominated(np.column_stack([self.errors, costs])))
        others = [number for number in sorted(best.tolist(), key=costs.__getitem__) if number not in chosen]
        wanted = min(POPULATION - len(chosen), len(others))
        spread = np.linspace(0, len(others) - 1, max(wanted, 0)).round().astype(int).tolist()
        return [self.candidates[number] for number in (*chosen, *(others[at] for at in spread))]


def _search_from_scratch(
    entry: Entry, seed: int, domain: SReTDomain, data: PreparedData, spent: Callable[[], float],
    first: Sequence[Candidate] = (),
) -> _Trials:  # fmt: skip
    trials = _Trials(_from_scratch(seed, data), spent, from_scratch=True)
    return _search(entry, seed, domain, trials, entry.seconds, first)


def _search(
    entry: Entry, seed: int, domain: SReTDomain, trials: _Trials, until: float, first: Sequence[Candidate] = ()
) -> _Trials:
    """Searches until so many seconds are spent, and returns the trials; those of `first` are the first of them.

    As in the tool, the best structures are evaluated before they are recommended. Time is kept for that.
    """
    strategy = create_strategy(entry.strategy, domain, ("error", "flops"), seed=seed, population=POPULATION)
    for candidate in first:
        strategy.adopt(candidate)
    waiting, began, spent = list(first), trials.spent(), trials.spent
    while True:
        each = (spent() - began) / max(len(trials.lines), 1)
        if spent() + len(BUDGETS) * each >= until:
            break
        proposed = waiting.pop(0) if waiting else strategy.ask()
        if proposed is None:
            break
        strategy.tell(proposed, trials.run(proposed))
    for _ in range(max_rounds(from_scratch=trials.from_scratch)):
        model = model_of(domain, trials.candidates, trials.errors)
        known = {candidate.key for candidate in trials.candidates}
        best = [] if model is None else best_structures(model)
        new = {candidate.key: candidate for candidate in best if candidate is not None and candidate.key not in known}
        if not new:
            break
        for candidate in new.values():
            trials.run(candidate)
    return trials


def _from_scratch(seed: int, data: PreparedData) -> Evaluate:
    from trials.worker.entry import JobRunner

    run_job = JobRunner()

    def evaluate(arch: ArchConfig) -> float:
        job = ScratchTrialJob(
            arch=arch, proxy=PROXY, data_dir=str(data.directory), data_digest=data.digest, device="cpu", seed=seed,
            depth_schedule="full", threads=1,
        )  # fmt: skip
        error: float = run_job(job.model_dump(mode="json"))["error"]
        return error

    return evaluate


def _inheriting(
    work: Path, seconds: float, seed: int, data: PreparedData, spent: Callable[[], float]
) -> tuple[Evaluate, Line]:
    """Trains a supernet for its share of the time, by measured steps, and scores what its networks inherit."""
    from rich.console import Console

    from sret_nas.nn.supernet import Supernet
    from trials.supernet.inherit import SubnetScorer
    from trials.supernet.spec import TrainingSpec
    from trials.supernet.training import train_supernet

    config = _config(_planned_steps(work, TRAINING_SHARE * seconds, seed, data))
    with (work / "log").open("w", encoding="utf-8") as log:
        spec = TrainingSpec(space=SPACE, budget=BUDGET, proxy=PROXY, config=config, seed=seed)
        path = train_supernet(work, spec, data, device="cpu", threads=1, console=Console(file=log))
    supernet, trained = Supernet.load(path)
    scorer = SubnetScorer(supernet.eval(), data, BATCH_SIZE, SCORED_IMAGES)
    return lambda arch: scorer.score(arch).error, {"steps": trained["steps"], "spent": round(spent(), 2)}


def _config(steps: int) -> SupernetConfig:
    return SupernetConfig(training=training(steps * BATCH_SIZE))


def _planned_steps(work: Path, seconds: float, seed: int, data: PreparedData) -> int:
    """Returns as many steps as fit, from a few that are measured and thrown away; they count as spent, too."""
    from trials.distributed.processes import process_group
    from trials.supernet.spec import TrainingSpec
    from trials.supernet.speed import MEASURED_STEPS, seconds_per_step, steps_within
    from trials.supernet.training import SupernetTraining

    with process_group("cpu") as processes:
        spec = TrainingSpec(space=SPACE, budget=BUDGET, proxy=PROXY, config=_config(MEASURED_STEPS), seed=seed)
        measured = SupernetTraining(work, spec, data, processes)
        return steps_within(seconds, seconds_per_step(measured, time.process_time))
