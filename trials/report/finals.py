"""The results of finalists: a line for each, and a table that compares them with their controls."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity

from ..console import print_line
from ..engines.results import RetrainResult
from ..runs.events import FinalistRole
from ..runs.trial import Trial
from ..runs.uncertainty import deviation_of_test, deviation_of_validation

WIDE = 75
"""Columns of a terminal below which the table leaves out the FLOPs, which are nearly equal, and the random network's
error, which follows from the difference."""
LEFT_OUT = (1, 2, 4)
"""Positions of these columns."""

MIN_RATIO = 3.0
"""Least ratio of a difference from scratch to that with inherited weights from which it is one of learning late."""

Pair = tuple[Trial, RetrainResult, RetrainResult]
"""A finalist that was trained from scratch, its result, and that of its control."""


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
    print_line(console, describe_noise(pairs))
    for line in late_learners(pairs):
        print_line(console, line)


def pairs_of(trials: Sequence[Trial]) -> list[Pair]:
    """Returns the finalists that were trained from scratch, each with its result and that of its control."""
    return [
        (trial, trial.finals["from scratch"], trial.finals["control"])
        for trial in trials
        if "from scratch" in trial.finals and "control" in trial.finals
    ]


def compared(gain: float) -> str:
    """Returns e.g. `1.20 points better` for a gain of 0.012."""
    return "equal" if gain == 0 else f"{abs(100 * gain):.2f} points {'better' if gain > 0 else 'worse'}"


def noise_of(pairs: Sequence[Pair]) -> float:
    """Returns two standard deviations of the difference of two test errors, from the luck of the images alone."""
    variances = [sum(deviation_of_test(result) ** 2 for result in results) for _, *results in pairs]
    return 2 * math.sqrt(sum(variances) / len(variances))


def describe_noise(pairs: Sequence[Pair]) -> str:
    """Returns a line that says which differences mean nothing."""
    images, points = counted(pairs[0][1].num_test_images, "test image"), 100 * noise_of(pairs)
    return f"Of {images}, one training each: differences below {points:.1f} points can be chance."


def late_learners(pairs: Sequence[Pair]) -> list[str]:
    """Returns a line for each pair of which one hardly learned from scratch, though it is good with inherited weights.

    The difference of such a pair says little of how good the networks become. It is one that from scratch is beyond
    noise larger than with inherited weights, and `MIN_RATIO` times as large.
    """
    lines = []
    for trial, found, random in pairs:
        names = [f"trial {trial.number}", f"the control of trial {trial.number}"]
        (better, name), (worse, late) = sorted(zip((found, random), names, strict=True), key=lambda each: each[0].error)
        if better.inherited_error is None or worse.inherited_error is None:
            continue
        before = [(result, result.inherited_error or 0.0) for result in (better, worse)]
        after = [(result, result.error) for result in (better, worse)]
        noise = 2 * math.hypot(*(deviation_of_validation(*each) for each in before + after))
        inherited_gap = max(0.0, worse.inherited_error - better.inherited_error)
        gap = worse.error - better.error
        if gap > inherited_gap + noise and gap > MIN_RATIO * inherited_gap:
            lines.append(
                f"{late[0].upper()}{late[1:]} hardly learned from scratch in {worse.train_images:,} images: it errs "
                f"{worse.error:.1%} on validation images, but {worse.inherited_error:.1%} with the supernet's weights, "
                f"where {name} errs {better.inherited_error:.1%}. This difference says which learns faster, and little "
                "of which becomes better."
            )
    return lines
