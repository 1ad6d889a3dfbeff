"""A search as it runs: what its parts have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sret_nas.space.search_space import SearchSpace

from ..console import Console
from ..engines.messages import JobContext, SupernetSource
from ..engines.retries import default_time_limit
from ..runs.compute_budget import ComputeBudget
from ..runs.options import SearchOptions
from ..runs.records import History, Records, Trial
from ..strategies.sret import SReTDomain
from ..training.recipe import ProxyConfig


@dataclass
class Run:
    """Everything a running search needs; its history grows with every candidate asked for."""

    run_dir: Path
    options: SearchOptions
    domain: SReTDomain
    data_dir: Path
    proxy: ProxyConfig
    records: Records
    history: History
    console: Console

    @property
    def space(self) -> SearchSpace:
        return self.domain.space

    @property
    def trials(self) -> list[Trial]:
        return [self.history.trials[number] for number in sorted(self.history.trials)]

    @property
    def has_all_trials(self) -> bool:
        """Whether every trial that was asked for has ended, so that there is nothing left to propose."""
        known = self.history.trials
        return all(number in known and known[number].has_ended for number in range(self.options.trials))

    @property
    def job_context(self) -> JobContext:
        return job_context_of(self.options, self.proxy, self.data_dir, self.history.header["data"]["digest"])

    @property
    def supernet(self) -> SupernetSource | None:
        """The supernet that trials inherit from; one that the search trained lies in its run directory."""
        known = self.history.supernet
        return None if known is None else known.model_copy(update={"path": str(self.run_dir / known.path)})

    def allowance(self) -> ComputeBudget:
        """What the search may spend, against what it has."""
        options = self.options
        return ComputeBudget(
            spending=self.records.spending,
            expected=self._expected("trial_seconds") or 0.0,
            time_budget=options.time_budget,
            gpu_hours=options.gpu_hours,
            gpus_per_trial=options.gpus_per_trial or 1.0,  # local workers may share one: it counts for each
        )

    @property
    def trial_time_limit(self) -> float | None:
        """Most seconds that an attempt at a trial may take."""
        return self.options.trial_timeout or self._default_limit("trial_seconds")

    @property
    def final_time_limit(self) -> float | None:
        """Most seconds that one of the final networks may take."""
        return self._default_limit("final_seconds")

    def _default_limit(self, name: str) -> float | None:
        expected = self._expected(name)
        return None if expected is None else default_time_limit(expected)

    def _expected(self, name: str) -> float | None:
        """Seconds as planned when the search began; None in records from before they were kept."""
        seconds: float | None = self.history.header.get("expected", {}).get(name)
        return seconds

    def weights_path(self, trial: Trial) -> Path:
        return self.run_dir / "weights" / f"trial-{trial.number:04d}.safetensors"

    def checkpoint_path(self, trial: Trial) -> Path:
        """Where the training of a trial is left off at a rung."""
        return self.run_dir / "checkpoints" / f"trial-{trial.number:04d}.pt"


def job_context_of(options: SearchOptions, proxy: ProxyConfig, data_dir: Path, data_digest: str) -> JobContext:
    """Returns what all jobs of a search have in common."""
    return JobContext(
        proxy=proxy, data_dir=str(data_dir), data_digest=data_digest, device=options.device, threads=options.threads
    )
