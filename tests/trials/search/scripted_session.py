"""Sessions of a search whose trials end as a test says."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.space.search_space import DepthSchedule
from tests.counted_spaces import shipped
from tests.trials.scripted_engine import Clock, End, ScriptedEngine
from trials.engines.jobs import SupernetSource, TrialJob, parse_job
from trials.engines.results import Failure, TargetCost, TrialResult
from trials.program_name import resume_command
from trials.runs.directory import RECORDS_FILE
from trials.runs.full_disk import full_disk_explained, recorded_in
from trials.runs.history import read_history
from trials.runs.options import SearchOptions
from trials.runs.optuna_journal import OptunaJournal
from trials.runs.records import HEADER_KEYS, Records
from trials.search.run import Run
from trials.search.trial_loop import run_trials
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate, Strategy
from trials.training.recipe import ProxyConfig, TrainingConfig

Play = Callable[[int, int], Failure | float | None]
"""Why a trial's attempt (from 1) fails, if it does, or a cross-entropy to find instead."""

DIED, MEMORY, FULL = (
    Failure(cause=cause, message=f"because {cause}") for cause in ("worker died", "out of memory", "disk full")
)
OPTIONS: dict[str, Any] = {
    "space": "smoke", "no_supernet": True, "trials": 8, "seed": 1, "strategy": "nsga2", "population": 2,
    "lookahead": 4, "workers": 2, "device": "cpu",
}  # fmt: skip
HEADER: dict[str, Any] = {
    **{key: {} for key in HEADER_KEYS} | {"command": []},
    "data": {"digest": "0"},
    "expected": {"trial_seconds": 10.0, "final_seconds": 100.0},
}


def result_of(job: TrialJob) -> dict[str, Any]:
    """Returns what the network's name says: an error as good as random."""
    cost = cost_of(job.arch)
    target = TargetCost(flops=cost.flops, params=cost.params, image_size=224, classes=1000)
    error = int(job.arch.arch_id[:4], 16) / (2 * 16**4)
    error += (1 - job.fraction) * int(job.arch.arch_id[4:8], 16) / (2 * 16**4)
    found = TrialResult(
        fraction=job.fraction, error=error, cross_entropy=error, error_by_depth=[error], train_loss=1.0, train_steps=1,
        train_images=1, train_seconds=1.0, seconds=2.0, target=target, proxy=target, proxy_arch=job.arch, device="cpu",
        peak_memory_mb=1.0,
    )  # fmt: skip
    return found.model_dump(mode="json")


@cache
def domain_of(space: str, budget: Budget) -> SReTDomain:
    """Returns the same domain for all sessions, so that its networks are counted once."""
    return SReTDomain(shipped(space), budget)


class Session:
    """One session of a search in a run directory; `fails` says what becomes of its attempts."""

    def __init__(
        self, run_dir: Path, fails: Play | None = None, clock: Clock | None = None, seconds: float = 0.0,
        pick: Callable[[int], int] = lambda running: 0, **changes: Any,
    ) -> None:  # fmt: skip
        self.run_dir = run_dir
        self.options = SearchOptions(**{**OPTIONS, **changes})
        capacity = self.options.workers
        self.engine = ScriptedEngine(self._play, capacity=capacity, clock=clock, seconds=seconds, pick=pick)
        self.jobs: list[TrialJob] = []
        self.text = io.StringIO()
        self._fails = fails or (lambda number, attempt: None)
        self._numbers: dict[str, int] = {}

    def _play(self, payload: dict[str, Any], attempt: int) -> End:
        job = parse_job(payload)
        assert isinstance(job, TrialJob)
        self.jobs.append(job)
        key = key_of(job.arch, job.depth_schedule)
        if key not in self._numbers:
            trials = read_history(self.run_dir).trials.values()
            self._numbers = {trial.candidate.key: trial.number for trial in trials}
        number = self._numbers[key]
        end, result = self._fails(number, attempt), result_of(job)
        if isinstance(end, float):
            return {**result, "cross_entropy": end}
        return end or result

    def make_strategy(self, domain: SReTDomain) -> Strategy[Candidate]:
        options = self.options
        return create_strategy(options.strategy, domain, options.objectives, seed=1, population=options.population)

    def run(self) -> Run:
        is_new = not (self.run_dir / RECORDS_FILE).exists()
        domain = domain_of(self.options.space, self.options.budget)
        proxy = ProxyConfig(image_size=32, width_scale=1.0, training=TrainingConfig(images=64))
        with Records(self.run_dir, must_exist=not is_new) as records:
            history = records.start(HEADER) if is_new else records.reopen()
            if not is_new:
                records.resumed({}, {})
            if not self.options.no_supernet:
                history.supernet = SupernetSource(path="supernet.safetensors", digest="0")
            run = Run(
                self.run_dir, self.options, domain, Path("data"), proxy, records, history,
                Console(file=self.text, width=200),
            )  # fmt: skip
            strategy = self.make_strategy(domain)
            with full_disk_explained(resume_command("search", self.run_dir), recorded_in(self.run_dir)):
                run_trials(run, strategy, self.engine, OptunaJournal(self.run_dir, domain, self.options.objectives))
        return run


def key_of(arch: ArchConfig, schedule: DepthSchedule) -> str:
    return Candidate(arch, schedule).key


def dying(number: int, times: int) -> Play:
    """Lets the first attempts at a trial, in this session, lose their worker."""
    return lambda asked, attempt: DIED if asked == number and attempt <= times else None


def events(run_dir: Path, *kinds: str) -> list[dict[str, Any]]:
    lines = (run_dir / RECORDS_FILE).read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] in kinds]


def found(run_dir: Path) -> list[tuple[str, float | None]]:
    trials = read_history(run_dir).trials
    return [(trials[n].candidate.key, t.result and t.result.error) for n, t in sorted(trials.items())]


def lines_with(text: io.StringIO, word: str) -> list[str]:
    return [line for line in text.getvalue().splitlines() if word in line]
