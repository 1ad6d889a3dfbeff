"""One search from scratch under one seed, with or without early stopping: what had come to its end by when."""

from __future__ import annotations

import io
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.end_to_end.setting import BUDGET, PROXY, SPACE
from sret_nas.arch.cost import cost_of
from trials.data import PreparedData
from trials.engines.inline import InlineEngine
from trials.engines.jobs import TrialJob, parse_job
from trials.runs.options import SearchOptions
from trials.runs.optuna_journal import OptunaJournal
from trials.runs.records import HEADER_KEYS, Records
from trials.runs.trial import Trial
from trials.search.run import Run
from trials.search.trial_loop import run_trials
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate, Strategy, StrategyName
from trials.worker.entry import JobRunner

Line = dict[str, Any]

SECONDS = 480
"""Of one core, for every search; what comes to its end later does not count."""
IMAGES = 48_000
"""Training images of a whole trial, three times the tool's default: short trials leave little to be saved."""
TRIAL = PROXY.model_copy(update={"training": PROXY.training.model_copy(update={"images": IMAGES})})
SEEDS = 3
POPULATION = 12
"""The start of `additive`, as in `benchmarks/end_to_end`."""


@dataclass(frozen=True)
class Entry:
    """A search in the comparison."""

    strategy: StrategyName
    rungs: int

    @property
    def name(self) -> str:
        return self.strategy if self.rungs == 1 else f"{self.strategy}, {self.rungs} rungs"


ENTRIES = tuple(Entry(strategy, rungs) for strategy in ("additive", "random") for rungs in (1, 3))


class UntilSpent(Strategy[Candidate]):
    """Asks another strategy until the time is over."""

    def __init__(self, inner: Strategy[Candidate], start: float) -> None:
        self._inner, self._start = inner, start

    def ask(self) -> Candidate | None:
        return self._inner.ask() if time.process_time() - self._start < SECONDS else None

    def tell(self, candidate: Candidate, values: tuple[float, ...] | None) -> None:
        self._inner.tell(candidate, values)

    def tell_partial(self, candidate: Candidate, rung: int, values: tuple[float, ...]) -> None:
        self._inner.tell_partial(candidate, rung, values)


def run_search(entry: Entry, seed: int, data_dir: Path) -> Line:
    """Searches with the tool's own loop, one trial at a time, in this process on one thread."""
    import torch

    torch.set_num_threads(1)
    given = {"no_supernet": True, "strategy": entry.strategy, "rungs": entry.rungs, "trials": 10_000, "lookahead": 1,
             "workers": 0, "seed": seed, "flops_budget": BUDGET.flops_max, "device": "cpu",
             "image_size": SPACE.image_size}  # fmt: skip
    options = SearchOptions.parse(given, "search")
    data, domain = PreparedData.open(data_dir), SReTDomain(SPACE, BUDGET)
    start, spent = time.process_time(), defaultdict[str, list[float]](list)

    run_job = JobRunner()

    def timed(payload: dict[str, Any]) -> dict[str, Any]:
        result = run_job(payload)
        job = parse_job(payload)
        assert isinstance(job, TrialJob)
        spent[job.arch.arch_id].append(round(time.process_time() - start, 2))
        return result

    inner = create_strategy(entry.strategy, domain, options.objectives, seed=seed, population=POPULATION)
    with tempfile.TemporaryDirectory() as folder, Records(Path(folder) / "run") as records:
        header: dict[str, Any] = {**{key: {} for key in HEADER_KEYS} | {"command": []}, "data": {"digest": data.digest}}
        run = Run(
            records.run_dir,
            options,
            domain,
            data_dir,
            TRIAL,
            records,
            records.start(header),
            Console(file=io.StringIO()),
        )
        journal = OptunaJournal(records.run_dir, domain, options.objectives)
        run_trials(run, UntilSpent(inner, start), InlineEngine(timed), journal)
        return {"entry": entry.name, "seed": seed, "trials": [_told(trial, spent) for trial in run.trials]}


def _told(trial: Trial, spent: dict[str, list[float]]) -> Line:
    """Returns what was found of a trial, at its rungs and at its end, and how much was spent by then."""
    found = [*trial.partial, *([trial.result] if trial.result is not None else [])]
    return {
        "flops": cost_of(trial.candidate.arch).flops,
        "shares": [round(each.fraction, 4) for each in found],
        "errors": [round(each.error, 6) for each in found],
        "cross_entropies": [round(each.cross_entropy, 4) for each in found],
        "spent": spent[trial.candidate.arch.arch_id],
    }
