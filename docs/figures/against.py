"""The figures of the comparison with other networks in docs/results.md. What has not been run says so."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

from docs.figures.tables import load, table
from sret_nas.quantities import format_quantity


def against_progress() -> str:
    """Returns how much is there: `0 of 3 searches and 0 of 54 trainings`."""
    done = load("against")["progress"]
    return " and ".join(f"{number} of {planned} {name}" for name, (number, planned) in done.items())


def against_table() -> str:
    """Returns test error, cost, latency and seconds of every kind at every budget."""
    header = ["at", "network", "seeds", "test error", "less found", "FLOPs", "parameters", "latency", "CPU hours"]
    run = [cell for cell in load("against")["cells"] if cell["seeds"]]
    return table(header, map(_row, run) if run else [("all", "not yet run", *[""] * 7)])


def _row(cell: dict[str, Any]) -> tuple[str, ...]:
    budget = format_quantity(cell["budget"])
    spread = "" if cell["test_error_sd"] is None else f" ± {100 * cell['test_error_sd']:.1f}"
    gap = f"{100 * fmean(cell['less_found']):+.1f} points" if cell["less_found"] else ""
    return (
        budget, cell["kind"], f"{cell['seeds']}", f"{100 * cell['test_error']:.1f}{spread} %", gap,
        f"{cell['flops'] / 1e6:.2f} M", f"{cell['params'] / 1e6:.2f} M", f"{cell['latency_ms']:.1f} ms",
        f"{cell['cpu_seconds'] / 3600:.2f}",
    )  # fmt: skip


FIGURES: dict[str, Callable[[], str]] = {"against-progress": against_progress, "against-table": against_table}
"""The parts by the names that markers use."""
