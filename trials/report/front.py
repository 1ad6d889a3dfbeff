"""The front as a table on the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from sret_nas.budget import format_quantity
from sret_nas.latency import LatencyProfile
from trials.objectives import keepers, most_accurate, pareto_front
from trials.options import SearchOptions
from trials.records import Trial
from trials.report.console import say

WIDE = 110
"""Columns from which on the table has room for the architecture beside its figures."""


def show_front(
    trials: list[Trial], options: SearchOptions, run_dir: Path, image_size: int, console: Console,
    latency: LatencyProfile | None = None,
) -> None:  # fmt: skip
    """The Pareto-optimal trials, cheapest first, the most accurate one marked, and where the files are.

    `latency` is what latencies were predicted from, where they were; predicted and measured ones then stand together.
    """
    finished = [trial for trial in trials if trial.result is not None]
    failed = [trial for trial in trials if trial.failure is not None]
    if not finished:
        console.print(
            f"No trial has finished ({len(failed)} failed). Records: {run_dir}", highlight=False, markup=False
        )
        return
    front, best = pareto_front(trials, options.objectives), most_accurate(trials, options.objectives)
    title = f"Pareto-optimal in {', '.join(options.objectives)}: {len(front)} of {len(finished)} trials"
    table = Table(title=title, title_justify="left", caption_justify="left", caption="* most accurate: best.yaml")
    names = ["trial", "network", f"FLOPs\n{image_size} px", "params", "val\nerror", "test\nerror"]
    names += ["schedule"] if latency is None else ["ms pred.\n/measured"]  # no room for both on 80 columns
    for name in names:
        table.add_column(name, justify="left" if name in ("network", "schedule") else "right", no_wrap=True)
    is_wide = console.width >= WIDE
    if is_wide:
        table.add_column("stages", overflow="fold")
    for trial in keepers(trials, options.objectives):
        cells = _cells(trial, is_best=trial is best)
        cells.append(trial.candidate.depth_schedule if latency is None else _latencies(trial))
        table.add_row(*cells, *([trial.candidate.arch.summary().replace(" | ", "\n")] if is_wide else []))
    console.print(table)
    if latency is not None:
        say(console, f"Latency in ms, {latency.setting.describe()}. {latency.describe_accuracy()}")
    if failed:
        say(console, f"Trials that failed: {len(failed)}; trials.csv says why.")
    say(
        console,
        f"Networks: {run_dir / 'pareto'}/*.yaml, best: {run_dir / 'best.yaml'}, picture: {run_dir / 'front.png'}",
    )


def _cells(trial: Trial, is_best: bool) -> list[str]:
    result = trial.result
    assert result is not None
    return [
        f"{trial.number}{'*' if is_best else ''}",
        trial.candidate.arch.arch_id,
        format_quantity(result.target.flops),
        format_quantity(result.target.params),
        f"{result.error:.2%}",
        "-" if trial.test is None else f"{trial.test.error:.2%}",
    ]


def _latencies(trial: Trial) -> str:
    assert trial.result is not None
    predicted, measured = trial.result.target.latency_us, trial.measured_us
    return "/".join("-" if value is None else f"{value / 1000:.4g}" for value in (predicted, measured))
