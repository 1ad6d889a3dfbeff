"""The operating points of a network that was scored at every recursion depth: FLOPs and error of each."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from sret_nas.arch.cost import cost_of
from sret_nas.quantities import format_quantity

from ..runs.options import SearchOptions
from ..runs.trial import Trial


@dataclass(frozen=True)
class DepthPoint:
    """One depth of a trial: its FLOPs, and the errors (0 to 1) that were measured there."""

    recursions: int
    """The largest number of recursions of a stage."""
    flops: int
    """Of the target, for one image."""
    error: float
    """Validation error of the trial."""
    tuned_error: float | None
    """Validation error after fine-tuning; None if it is no finalist, or was tuned at the full depth alone."""
    test_error: float | None
    """Test error after that."""


def depth_points(trial: Trial) -> list[DepthPoint]:
    """Returns the depths of a finished trial, the shallowest first; none if only its full depth was scored."""
    result, final = trial.result, trial.finals.get("fine-tuned")
    if result is None or len(result.error_by_depth) < 2:
        return []
    tuned = final is not None and len(final.error_by_depth) == len(result.error_by_depth)
    points = []
    for position, error in enumerate(result.error_by_depth):
        flops = cost_of(trial.arch.with_max_recursions(position + 1)).flops
        after: tuple[float | None, float | None] = (None, None)
        if final is not None and tuned:
            after = final.error_by_depth[position], final.test_error_by_depth[position]
        points.append(DepthPoint(position + 1, flops, error, *after))
    return points


def operating_points(trial: Trial, options: SearchOptions) -> list[DepthPoint]:
    """Returns the depths at which a trial's network is meant to run; none if it was trained at its full depth alone."""
    return depth_points(trial) if options.scores_depths or trial.depth_schedule != "full" else []


def depth_cells(point: DepthPoint) -> tuple[str, ...]:
    """Returns a depth as texts: recursions, FLOPs, and three errors."""
    errors = (point.error, point.tuned_error, point.test_error)
    return (
        str(point.recursions),
        format_quantity(point.flops),
        *("-" if error is None else f"{error:.2%}" for error in errors),
    )


def show_depths(trial: Trial, options: SearchOptions, console: Console) -> None:
    """Prints the depths of a finished trial as a table; nothing if it was trained at its full depth alone."""
    points = operating_points(trial, options)
    if not points:
        return
    table = Table(
        title=f"Trial {trial.number}: one file of weights at every depth", title_justify="left", caption_justify="left",
        caption=None if options.scores_depths else "shallower depths on fewer validation images",
    )  # fmt: skip
    names = ["recursions\nat most", "FLOPs", "val\nerror", "tuned\nerror", "test\nerror"]
    if all(point.tuned_error is None for point in points):
        del names[3:]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for point in points:
        table.add_row(*depth_cells(point)[: len(names)])
    console.print(table)
