"""How long networks take side by side, as a table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import Tensor

from ..machine import processor_name

LARGE_BATCH = 16
MAX_PASSES = 30
MAX_SECONDS = 5.0
"""Passes of each network, or seconds of all together, for a latency."""


@dataclass(frozen=True)
class TimedNetwork:
    """A network in the table of latencies."""

    name: str
    run: Callable[[Tensor], Tensor]
    num_bytes: int | None
    """Of its files; None if it is in no file."""
    top1: float | None = None
    takes_pixels: bool = False
    """Whether it takes images of 8 bits."""


def latency_table(
    rows: Sequence[TimedNetwork], ones: Sequence[float], larges: Sequence[float], *, image_size: int
) -> Table:
    """Returns a table of median seconds at batch 1 and at the large batch, and of the sizes of files."""
    threads = torch.get_num_threads()
    table = Table(
        "", "batch 1", f"batch {LARGE_BATCH}", "size",
        title=f"Median latency at {image_size} px; {processor_name()}, {threads} thread{'s' * (threads > 1)}",
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for row, one, large in zip(rows, ones, larges, strict=True):
        size = "" if row.num_bytes is None else f"{row.num_bytes / 1e6:.2f} MB"
        table.add_row(row.name, _milliseconds(one), _milliseconds(large), size)
    return table


def _milliseconds(seconds: float) -> str:
    """Returns a time with three digits."""
    return f"{float(f'{1e3 * seconds:.3g}'):g} ms"


def median_latencies(runs: Sequence[Callable[[], Tensor]]) -> list[float]:
    """Returns the median seconds of a pass of each network.

    They take turns, so that a machine that slows down slows all of them.
    """
    seconds: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()  # the first pass allocates
    started = time.perf_counter()
    for passes in range(MAX_PASSES):
        if passes >= 3 and time.perf_counter() - started > MAX_SECONDS:
            break
        for run, measured in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run()
            measured.append(time.perf_counter() - start)
    return [statistics.median(measured) for measured in seconds]
