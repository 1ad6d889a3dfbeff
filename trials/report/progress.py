"""The progress of a running search: a live bar on a terminal, else plain lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from sret_nas.plurals import counted
from sret_nas.quantities import format_seconds

from ..console import print_line
from ..runs.compute_budget import ComputeBudget
from ..runs.objective_texts import TEXTS, error_text, known_values
from ..runs.objectives import Objective, error_named, error_of
from ..runs.trial import Trial

REPLAY_LINE_SECONDS = 10.0
"""Between two lines on how far a replay is, where there is no bar."""


def describe_usage(compute_budget: ComputeBudget, now: float | None = None) -> str:
    """Returns e.g. `12 min 5 s of 2 h 0 min spent, 1 h 47 min left`; empty if there is no limit."""
    parts = []
    if compute_budget.time_budget is not None:
        spent = compute_budget.usage.wall_seconds(compute_budget.clock() if now is None else now)
        left = max(0.0, compute_budget.time_budget - spent)
        total = format_seconds(compute_budget.time_budget)
        parts.append(f"{format_seconds(spent)} of {total} spent, {format_seconds(left)} left")
    if compute_budget.gpu_hours is not None:
        hours = compute_budget.gpu_seconds / 3600
        left = max(0.0, compute_budget.gpu_hours - hours)
        parts.append(f"{hours:.3g} of {compute_budget.gpu_hours:g} GPU-hours spent, {left:.3g} left")
    return "; ".join(parts)


class _UsageColumn(ProgressColumn):
    """A column that is rendered again and again, because time passes while no trial ends."""

    def __init__(self, compute_budget: ComputeBudget) -> None:
        super().__init__()
        self._compute_budget = compute_budget

    def render(self, task: Task) -> Text:
        return Text(describe_usage(self._compute_budget))


class SearchProgress:
    """Shows the count of ended trials, the best error, the time left, and the usage of a limited compute budget.

    The time left follows from the mean duration of the trials that ended in this process.
    """

    def __init__(
        self, console: Console, num_trials: int, num_known: int, best_error: float | None,
        compute_budget: ComputeBudget, objectives: Sequence[Objective],
    ) -> None:  # fmt: skip
        self._console, self._objectives = console, objectives
        self._compute_budget = compute_budget
        self._num_trials = num_trials
        self._num_done = self._num_known = num_known
        self._started = self._last_replay_line = time.monotonic()
        self._bar = Progress(
            TextColumn("[bold]trials"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            _UsageColumn(compute_budget),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task(
            "trials", total=num_trials, completed=num_known, left=self._describe_best(best_error)
        )

    def trial_ended(self, trial: Trial, best_error: float | None, is_news: bool) -> None:
        """Counts one trial, updates the best validation error and, if `is_news`, prints a line about the trial."""
        self._num_done += 1
        left = f"{format_seconds(self._time_left())} left"
        self._bar.update(self._task, completed=self._num_done, left=f"{left} {self._describe_best(best_error)}")
        if is_news:
            self.say(
                describe_trial(trial, self._objectives) + ("" if self._console.is_terminal else self._counter(left))
            )

    def replayed(self, done: int, total: int) -> None:
        """Tells how far a resumed search is with asking again for what it knows: in the bar, or now and then a line."""
        self._started = now = time.monotonic()
        text = f"replaying what is on record: {done:,} of {counted(total, 'trial')}"
        self._bar.update(self._task, left=text)
        if not self._console.is_terminal and now - self._last_replay_line >= REPLAY_LINE_SECONDS:
            self._last_replay_line = now
            self.say(text)

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        print_line(self._bar.console, text)

    def _counter(self, left: str) -> str:
        """Returns what the bar would show."""
        usage = describe_usage(self._compute_budget) if self._compute_budget.is_bounded else left
        return f" [{self._num_done}/{self._num_trials}, {usage}]"

    def _time_left(self) -> float:
        per_trial = (time.monotonic() - self._started) / (self._num_done - self._num_known)
        return per_trial * (self._num_trials - self._num_done)

    def _describe_best(self, error: float | None) -> str:
        return "" if error is None else f"best {error_text(self._objectives).word} {error:.1%}"

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def describe_retry(trial: Trial) -> str:
    """Returns a line about an attempt that failed because of the machine and is repeated."""
    failure, name = trial.retried[-1], f"trial {trial.number} {trial.arch_id}"
    return f"{name}, attempt {len(trial.retried)}: {failure.cause} ({failure.message}); it runs again"


def describe_trial(trial: Trial, objectives: Sequence[Objective]) -> str:
    """Returns a line about a trial that ended, with all objectives.

    It has at most 80 columns unless the trial failed, or the objectives are others than error, FLOPs and parameters.
    """
    name = f"trial {trial.number} {trial.arch_id}"
    if trial.is_stopped:
        last = trial.partial[-1]
        error = error_text(objectives).write(error_of(last, objectives))
        return f"{name} stopped after {last.fraction:.0%}: {error}"
    result = trial.result
    if result is None:
        assert trial.failure is not None
        return f"{name} failed: {trial.failure.cause} ({trial.failure.message})"
    known = known_values(result, objectives)
    shown = {error_named(objectives), "flops", "latency" if "latency" in known else "params", *objectives}
    values = ", ".join(TEXTS[objective].write(value) for objective, value in known.items() if objective in shown)
    schedule = f"{trial.depth_schedule}, " if result.train_steps > 0 else ""
    return f"{name} {values}, {schedule}{result.seconds:.{0 if result.seconds >= 2 else 1}f} s"
