"""One search of one entry under one seed: what it evaluated by when, in seconds of one core."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.end_to_end.setting import BATCH_SIZE, BUDGET, PROXY, SCORED_IMAGES, SPACE, Entry, training
from benchmarks.end_to_end.standalone import recommended
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from trials.data import PreparedData
from trials.engines.jobs import ScratchTrialJob
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate
from trials.supernet.config import SupernetConfig

Line = dict[str, Any]
Evaluate = Callable[[ArchConfig], float]
"""Validation error of a network's proxy, 0 to 1."""

POPULATION = 12
"""NSGA-II's population, and the start of `additive`: by the tool's rule (a quarter) for as many trials as there are."""
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
            evaluate, record["supernet"] = _inheriting(Path(work), entry.seconds, seed, data, spent)
        else:
            evaluate = _from_scratch(seed, data)
        record["trials"] = _search(entry, seed, domain, evaluate, spent)
    return shortened(record)


def shortened(search: Line) -> Line:
    """Leaves out the architectures of networks that the search does not recommend."""
    kept = [trial for trial in recommended(search) if trial is not None]
    bare = [{name: value for name, value in trial.items() if name != "architecture"} for trial in search["trials"]]
    trials = [whole if whole in kept else short for whole, short in zip(search["trials"], bare, strict=True)]
    return {**search, "trials": trials}


def _search(
    entry: Entry, seed: int, domain: SReTDomain, evaluate: Evaluate, spent: Callable[[], float]
) -> list[dict[str, Any]]:
    strategy = create_strategy(entry.strategy, domain, ("error", "flops"), seed=seed, population=POPULATION)
    trials = []
    while spent() < entry.seconds:
        candidate: Candidate | None = strategy.ask()
        if candidate is None:
            break
        arch = candidate.arch
        error, flops = evaluate(arch), cost_of(arch).flops
        strategy.tell(candidate, (error, float(flops)))
        trial = {"spent": round(spent(), 2), "error": round(error, 6), "flops": flops, "architecture": arch.to_dict()}
        trials.append(trial)
    return [trial for trial in trials if trial["spent"] <= entry.seconds]


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
