"""The results of finalists: a line for each, and a table that compares them with their controls."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from sret_nas.quantities import format_quantity

from ..console import print_line
from ..engines.results import RetrainResult
from ..runs.events import FinalistRole
from ..runs.trial import Trial

WIDE = 75
"""Columns of a terminal below which the table leaves out the FLOPs, which are nearly equal, and the random network's
error, which follows from the difference."""
LEFT_OUT = (1, 2, 4)
"""Positions of these columns."""


def describe_final(number: int, role: FinalistRole, result: RetrainResult) -> str:
    """Returns a line of at most 80 columns about a finalist or control."""
    what = "control of trial" if role == "control" else "trial"
    how = "" if role == "control" else f" {role}"
    return (
        f"{what} {number}{how}: val error {result.error:.2%}, test error {result.test_error:.2%}, "
        f"{format_quantity(result.flops)} FLOPs, {result.seconds:.0f} s"
    )


def show_finals(trials: Sequence[Trial], console: Console) -> None:
    """Prints the finalists that were trained from scratch, each next to its control; nothing if there are none."""
    pairs = pairs_of(trials)
    if not pairs:
        return
    table = Table(title="Was it luck? Both trained from scratch, alike", title_justify="left")
    columns = ("trial", "FLOPs\nfound", "FLOPs\nrandom", "test error\nfound", "test error\nrandom", "found is")
    shown = [position for position in range(len(columns)) if console.width >= WIDE or position not in LEFT_OUT]
    for position in shown:
        table.add_column(columns[position], justify="right", no_wrap=True)
    for trial, found, random in pairs:
        cells = (
            str(trial.number),
            format_quantity(found.flops),
            format_quantity(random.flops),
            f"{found.test_error:.2%}",
            f"{random.test_error:.2%}",
            compared(random.test_error - found.test_error),
        )
        table.add_row(*(cells[position] for position in shown))
    console.print(table)
    images = pairs[0][1].num_test_images
    points = 100 * noise_of(pairs)
    print_line(
        console, f"Of {images:,} test images, one training each: differences below {points:.1f} points can be chance."
    )


def pairs_of(trials: Sequence[Trial]) -> list[tuple[Trial, RetrainResult, RetrainResult]]:
    """Returns the finalists that were trained from scratch, each with its result and that of its control."""
    return [
        (trial, trial.finals["from scratch"], trial.finals["control"])
        for trial in trials
        if "from scratch" in trial.finals and "control" in trial.finals
    ]


def compared(gain: float) -> str:
    """Returns e.g. `1.20 points better` for a gain of 0.012."""
    return "equal" if gain == 0 else f"{abs(100 * gain):.2f} points {'better' if gain > 0 else 'worse'}"


def noise_of(pairs: Sequence[tuple[Trial, RetrainResult, RetrainResult]]) -> float:
    """Returns two standard deviations of the difference of two test errors, from binomial noise alone."""
    variances = [
        sum(result.test_error * (1 - result.test_error) / result.num_test_images for result in results)
        for _, *results in pairs
    ]
    return 2 * math.sqrt(sum(variances) / len(variances))
