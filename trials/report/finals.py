"""What the final networks are worth: a line for each, and a comparison with random networks of equal cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from sret_nas.quantities import format_quantity

from ..console import print_line
from ..engines.messages import RetrainResult
from ..runs.events import FinalistRole
from ..runs.records import Trial


def describe_final(number: int, role: FinalistRole, result: RetrainResult) -> str:
    """One line of at most 80 columns."""
    what = "control of trial" if role == "rival" else "trial"
    how = "" if role == "rival" else f" {role}"
    return (
        f"{what} {number}{how}: val error {result.error:.2%}, test error {result.test_error:.2%}, "
        f"{format_quantity(result.flops)} FLOPs, {result.seconds:.0f} s"
    )


def show_finals(trials: Sequence[Trial], console: Console) -> None:
    """The finalists that were trained from scratch, each beside its rival; nothing where there are none."""
    pairs = [
        (trial, trial.finals["from scratch"], trial.finals["rival"])
        for trial in trials
        if "from scratch" in trial.finals and "rival" in trial.finals
    ]
    if not pairs:
        return
    table = Table(title="Was it luck? Both trained from scratch, alike", title_justify="left")
    for name in ("trial", "FLOPs\nfound", "FLOPs\nrandom", "test error\nfound", "test error\nrandom", "found is"):
        table.add_column(name, justify="right", no_wrap=True)
    for trial, found, random in pairs:
        table.add_row(
            str(trial.number),
            format_quantity(found.flops),
            format_quantity(random.flops),
            f"{found.test_error:.2%}",
            f"{random.test_error:.2%}",
            _compared(random.test_error - found.test_error),
        )
    console.print(table)
    images = pairs[0][1].num_test_images
    points = 100 * _noise(pairs)
    print_line(
        console, f"Of {images:,} test images, one training each: differences below {points:.1f} points can be chance."
    )


def _compared(gain: float) -> str:
    """`1.20 better`, in points of a percent."""
    return "equal" if gain == 0 else f"{abs(100 * gain):.2f} points {'better' if gain > 0 else 'worse'}"


def _noise(pairs: Sequence[tuple[Trial, RetrainResult, RetrainResult]]) -> float:
    """Two standard deviations of a difference of two errors, by the binomial distribution of the test images alone."""
    variances = [
        sum(result.test_error * (1 - result.test_error) / result.num_test_images for result in results)
        for _, *results in pairs
    ]
    return 2 * math.sqrt(sum(variances) / len(variances))
