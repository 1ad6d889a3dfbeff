"""Prints the front as a table on the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from sret_nas.latency.profile import LatencyProfile
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity

from ..console import print_line
from ..runs.best import choose_best
from ..runs.objectives import archived, error_of, pareto_front
from ..runs.options import SearchOptions
from ..runs.recommendation import Recommendations
from ..runs.trial import Trial
from .depths import show_depths
from .finals import show_finals
from .html import REPORT
from .recommended import show_recommended

WIDE, NARROW = 110, 72
"""Columns of a terminal from which the table shows architectures, and below which it leaves out ids and parameters."""

LEFT_OUT = ("network", "params", "schedule")
"""Columns that a narrow terminal has no room for."""
FULL_DEPTH = ("val\nerror", "inher.\nerror")
"""Columns that it has no room for beside the mean over depths. The table of depths has the error at the full one."""


def show_front(
    trials: list[Trial], options: SearchOptions, run_dir: Path, image_size: int, console: Console,
    latency: LatencyProfile | None = None, recommended: Recommendations | None = None,
) -> None:  # fmt: skip
    """Prints the Pareto-optimal trials, cheapest first, with the best one marked, and the paths of the result files.

    Args:
        recommended: What the search recommends, if anything.
        latency: The profile that latencies were predicted from; None if the search does not use latency.
    """
    finished = [trial for trial in trials if trial.is_finished]
    failed = [trial for trial in trials if trial.failure is not None]
    if not finished:
        console.print(
            f"No trial has finished ({len(failed)} failed). Records: {run_dir}", highlight=False, markup=False
        )
        return
    front = pareto_front(trials, options.objectives)
    best, reason = choose_best(trials, options.objectives, options.best_by, recommended)
    stopped = sum(trial.is_stopped for trial in trials)
    title = f"Pareto-optimal in {', '.join(options.objectives)}: {len(front)} of {counted(len(finished), 'trial')}"
    title += f"; {stopped} more stopped early" if stopped else ""
    members = archived(trials, options.objectives)
    caption = _caption(options, is_best_shown=any(trial is best for trial in members))
    table = Table(title=title, title_justify="left", caption_justify="left", caption=caption)
    names = _columns(options, image_size)
    left_out = () if console.width >= NARROW else (*LEFT_OUT, *(FULL_DEPTH if options.scores_depths else ()))
    shown = [position for position, name in enumerate(names) if name not in left_out]
    for name in (names[position] for position in shown):
        table.add_column(name, justify="left" if name in ("network", "schedule") else "right", no_wrap=True)
    is_wide = console.width >= WIDE
    if is_wide:
        table.add_column("stages", overflow="fold")
    for trial in members:
        cells = _cells(trial, options, is_best=trial is best)
        table.add_row(
            *(cells[position] for position in shown),
            *([trial.arch.summary().replace(" | ", "\n")] if is_wide else []),
        )
    console.print(table)
    show_recommended(trials, recommended, best, reason, console, options.objectives)
    show_depths(best, options, console)
    show_finals(trials, console)
    if latency is not None:
        print_line(console, f"Latency in ms, {latency.setup.describe()}. {latency.describe_accuracy()}")
    if failed:
        print_line(console, f"Trials that failed: {len(failed)}; trials.csv says why.")
    report = f", report: {run_dir / REPORT}" if (run_dir / REPORT).is_file() else ""
    print_line(console, f"Networks: {run_dir / 'pareto'}/*.yaml, best: {run_dir / 'best.yaml'}{report}")


def _caption(options: SearchOptions, is_best_shown: bool) -> str:
    """Returns the words below the table. The best network is not among its rows if the model chose it off the front."""
    star = ("* most accurate: best.yaml" if options.no_supernet else "* best.yaml") if is_best_shown else ""
    errors = "Validation error with inherited weights, then fine-tuned; test error after that"
    mean = "Mean error: over the recursion depths" if options.scores_depths else ""
    balanced = "Every class counts alike in errors" if options.balanced_error else ""
    return ". ".join(filter(None, (star, "" if options.no_supernet else errors, mean, balanced)))


def _columns(options: SearchOptions, image_size: int) -> list[str]:
    """Returns the names of the columns, at most eight, which fit into 80 characters; nine with latency and depths."""
    names = ["trial", "network", f"FLOPs\n{image_size} px", "params"]
    names += ["mean\nerror"] if options.scores_depths else []
    names += ["val\nerror", "test\nerror"] if options.no_supernet else ["inher.\nerror", "tuned\nerror", "test\nerror"]
    if options.uses_latency:
        return [*names, "ms pred.\n/measured"]
    return [*names, "schedule"] if options.no_supernet else names


def _cells(trial: Trial, options: SearchOptions, is_best: bool) -> list[str]:
    result, final = trial.result, trial.finals.get("fine-tuned")
    assert result is not None
    cells = [
        f"{trial.number}{'*' if is_best else ''}",
        trial.arch_id,
        format_quantity(result.target.flops),
        format_quantity(result.target.params),
        *([f"{error_of(result, options.objectives):.2%}"] if options.scores_depths else []),
        f"{result.error:.2%}",
    ]
    if options.no_supernet:
        cells.append("-" if trial.test is None else f"{trial.test.error:.2%}")
    else:
        cells += ["-", "-"] if final is None else [f"{final.error:.2%}", f"{final.test_error:.2%}"]
    if options.uses_latency:
        return [*cells, _latencies(trial)]
    return [*cells, trial.candidate.depth_schedule] if options.no_supernet else cells


def _latencies(trial: Trial) -> str:
    result = trial.result
    assert result is not None
    predicted, measured = result.target.latency_us, trial.measured_us
    return "/".join("-" if value is None else f"{value / 1000:.4g}" for value in (predicted, measured))
