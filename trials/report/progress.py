"""What a running search shows: a live bar on a terminal, plain lines where there is none."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sret_nas.budget import format_quantity
from sret_nas.latency import format_latency
from trials.records import Trial
from trials.report.console import say


def format_seconds(seconds: float) -> str:
    """`0.4 s`, `8 s`, `2 min 5 s` or `1 h 12 min`."""
    if 0 < seconds < 2:
        return f"{seconds:.1f} s"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class SearchProgress:
    """Counts trials and tells the time left, from the mean duration of the trials that ended in this process."""

    def __init__(self, console: Console, num_trials: int, num_known: int, best_error: float | None) -> None:
        self._console = console
        self._num_trials = num_trials
        self._num_done = self._num_known = num_known
        self._started = time.monotonic()
        self._bar = Progress(
            TextColumn("[bold]trials"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task(
            "trials", total=num_trials, completed=num_known, left=_describe_best(best_error)
        )

    def trial_ended(self, trial: Trial, best_error: float | None, is_news: bool) -> None:
        """Counts one trial, tells the best validation error so far, and, if it is news, gives the trial a line."""
        self._num_done += 1
        left = self._time_left()
        text = f"{format_seconds(left)} left {_describe_best(best_error)}"
        self._bar.update(self._task, completed=self._num_done, left=text)
        if not is_news:
            return
        counter = (
            "" if self._console.is_terminal else f" [{self._num_done}/{self._num_trials}, {format_seconds(left)} left]"
        )
        say(self._bar.console, describe_trial(trial) + counter)

    def _time_left(self) -> float:
        per_trial = (time.monotonic() - self._started) / (self._num_done - self._num_known)
        return per_trial * (self._num_trials - self._num_done)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _describe_best(error: float | None) -> str:
    return "" if error is None else f"best error {error:.1%}"


def describe_trial(trial: Trial) -> str:
    """One line about a trial that ended, of at most 80 columns unless it failed."""
    name = f"trial {trial.number} {trial.candidate.arch.arch_id}"
    if trial.result is None:
        assert trial.failure is not None
        return f"{name} failed: {trial.failure.cause} ({trial.failure.message})"
    result, latency = trial.result, trial.result.target.latency_us
    size = f"{format_quantity(result.target.params)} params" if latency is None else format_latency(latency)
    schedule = f"{trial.candidate.depth_schedule}, " if result.train_steps > 0 else ""
    return (
        f"{name} error {result.error:.2%}, {format_quantity(result.target.flops)} FLOPs, {size}, "
        f"{schedule}{result.seconds:.{0 if result.seconds >= 2 else 1}f} s"
    )
