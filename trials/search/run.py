"""The state of a running search, shared by its parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sret_nas.files import validate
from sret_nas.space.search_space import SearchSpace

from ..console import Console
from ..data import PreparedData
from ..engines.jobs import JobContext, SupernetSource
from ..engines.retries import default_time_limit
from ..report.drawing import warn_if_undrawn
from ..report.html import REPORT, LiveReport, ReportInput
from ..runs.compute_budget import ComputeBudget
from ..runs.directory import weights_file
from ..runs.history import History
from ..runs.options import SearchOptions
from ..runs.records import Records
from ..runs.trial import Trial
from ..strategies.sret import SReTDomain
from ..training.prepared_labels import SoftLabelSource
from ..training.recipe import Precision, ProxyConfig
from .tracking import Tracking


@dataclass
class Run:
    """A running search: its options, candidates, data and records. The history grows with every candidate asked."""

    run_dir: Path
    options: SearchOptions
    domain: SReTDomain
    data_dir: Path
    proxy: ProxyConfig
    records: Records
    history: History
    console: Console
    live_report: LiveReport = field(default_factory=LiveReport)
    tracking: Tracking | None = None
    """The experiment trackers of this session; None before they are open."""

    @property
    def space(self) -> SearchSpace:
        return self.domain.space

    @property
    def trials(self) -> list[Trial]:
        return self.history.in_order

    @property
    def has_all_trials(self) -> bool:
        """Whether every trial that was asked for has ended, so that there is nothing left to propose."""
        return self.history.num_ended >= self.options.trials

    @property
    def job_context(self) -> JobContext:
        header = self.history.header
        precision = header.get("precision", "fp32")  # earlier versions recorded none, and computed in fp32
        return job_context_of(
            self.options, self.proxy, self.data_dir, header["data"]["digest"], precision, self.soft_labels
        )

    @property
    def soft_labels(self) -> SoftLabelSource | None:
        """The labels that the search was begun with, where they lie now; None for the images' classes."""
        return recorded_labels(self.history.header, self.options, self.run_dir)

    @property
    def supernet(self) -> SupernetSource | None:
        """The supernet that trials inherit from, with a path relative to the working directory; None if unset.

        The record of a supernet that the search trained has a path relative to the run directory. A given one lies
        where the options say now.
        """
        known = self.history.supernet
        path = None if known is None else self.options.supernet or str(self.run_dir / known.path)
        return None if known is None else known.model_copy(update={"path": path})

    def compute_budget(self) -> ComputeBudget:
        """Returns the limits of the search's compute, with its usage."""
        options = self.options
        return ComputeBudget(
            usage=self.records.usage,
            expected=self._expected("trial_seconds") or 0.0,
            time_budget=options.time_budget,
            gpu_hours=options.gpu_hours,
            clock=self.records.now,
            gpus_per_trial=options.gpus_per_trial or 1.0,  # local workers may share a GPU, which counts for each
        )

    @property
    def trial_time_limit(self) -> float | None:
        """The maximum seconds of an attempt at a trial; None is no limit."""
        return self.options.trial_timeout or self._default_limit("trial_seconds")

    @property
    def final_time_limit(self) -> float | None:
        """The maximum seconds of training or testing a network at the end; None is no limit.

        `--trial-timeout` holds for it in proportion to its planned time, if that is longer than a trial's.
        """
        timeout = self.options.trial_timeout
        trial, final = self._expected("trial_seconds"), self._expected("final_seconds")
        if timeout is None or not trial or final is None:
            return self._default_limit("final_seconds")
        return timeout * max(1.0, final / trial)

    def _default_limit(self, name: str) -> float | None:
        expected = self._expected(name)
        return None if expected is None else default_time_limit(expected)

    def _expected(self, name: str) -> float | None:
        """Returns the planned seconds in the header; None in records of versions that did not keep them."""
        seconds: float | None = self.history.header.get("expected", {}).get(name)
        return seconds

    def report_input(self, *, is_running: bool) -> ReportInput:
        """Returns what a report is made of now. Raises `LostDirectoryError` if the run directory is gone."""
        self.records.require_in_place()
        data = PreparedData.open(self.data_dir)
        return ReportInput(self.run_dir, self.history, self.options, self.domain, data, is_running)

    def track(self, trial: Trial) -> None:
        """Tells the trackers of a trial that has ended."""
        if self.tracking is not None:
            self.tracking.trial_ended(trial)

    def refresh_report(self) -> None:
        """Writes the report of the running search, if it is time to. If that fails, it says so once."""
        with warn_if_undrawn(self.console, str(self.run_dir / REPORT), "the search goes on"):
            self.live_report.refresh(lambda: self.report_input(is_running=True))

    def weights_path(self, trial: Trial) -> Path:
        return self.run_dir / weights_file(trial.number)

    def checkpoint_path(self, trial: Trial) -> Path:
        """Returns the checkpoint that a training writes at a rung and resumes from."""
        return self.run_dir / "checkpoints" / f"trial-{trial.number:04d}.pt"


def job_context_of(
    options: SearchOptions, proxy: ProxyConfig, data_dir: Path, data_digest: str, precision: Precision,
    soft_labels: SoftLabelSource | None,
) -> JobContext:  # fmt: skip
    """Returns the fields that all jobs of a search share."""
    return JobContext(
        proxy=proxy, data_dir=str(data_dir), data_digest=data_digest, device=options.device, threads=options.threads,
        precision=precision, balanced_error=options.balanced_error, soft_labels=soft_labels,
    )  # fmt: skip


def recorded_labels(header: dict[str, Any], options: SearchOptions, run_dir: Path) -> SoftLabelSource | None:
    """Returns the soft labels of a recorded header, at the place that the options name; None if it has none."""
    if header.get("soft_labels") is None:  # earlier versions recorded no such key
        return None
    return validate(SoftLabelSource, {**header["soft_labels"], "path": options.soft_labels}, f"{run_dir}: soft labels")
