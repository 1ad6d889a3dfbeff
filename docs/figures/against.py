"""The figures of the comparison with other networks in docs/results.md. What has not been run says so."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

from docs.figures.tables import load, table
from sret_nas.quantities import format_quantity

_NAMES = {
    "found": "what a search found", "random": "random feasible networks", "published shape": "SReT-T's shape",
    "ViT": "a plain ViT", "MobileNetV3": "MobileNetV3", "ResNet": "a ResNet",
}  # fmt: skip


def against_progress() -> str:
    """Returns how much is there: `0 of 3 searches and 0 of 54 trainings`."""
    done = load("against")["progress"]
    return " and ".join(f"{number} of {planned} {name}" for name, (number, planned) in done.items())


def against_table() -> str:
    """Returns test error, cost, latency and seconds of every kind at every budget."""
    header = ["at", "network", "seeds", "test error", "less found", "FLOPs", "parameters", "latency", "CPU hours"]
    run = [cell for cell in load("against")["cells"] if cell["seeds"]]
    return table(header, map(_row, run) if run else [("all", "not yet run", *[""] * 7)])


def against_summary() -> str:
    """Returns the mean test errors as a table: a row for each kind of network, a column for each budget."""
    cells = {(cell["kind"], cell["budget"]): cell for cell in load("against")["cells"] if cell["seeds"]}
    budgets = sorted({budget for _, budget in cells})
    kinds = [kind for kind in _NAMES if any((kind, budget) in cells for budget in budgets)]

    def error(kind: str, budget: int) -> str:
        cell = cells.get((kind, budget))
        return "" if cell is None else f"{100 * cell['test_error']:.1f} %"

    header = ["test error at", *(f"{format_quantity(budget)} multiply-adds" for budget in budgets)]
    return table(header, [[_NAMES[kind], *(error(kind, budget) for budget in budgets)] for kind in kinds])


def _row(cell: dict[str, Any]) -> tuple[str, ...]:
    budget = format_quantity(cell["budget"])
    spread = "" if cell["test_error_sd"] is None else f" ± {100 * cell['test_error_sd']:.1f}"
    gap = f"{100 * fmean(cell['less_found']):+.1f} points" if cell["less_found"] else ""
    return (
        budget, cell["kind"], f"{cell['seeds']}", f"{100 * cell['test_error']:.1f}{spread} %", gap,
        f"{cell['flops'] / 1e6:.2f} M", f"{cell['params'] / 1e6:.2f} M", f"{cell['latency_ms']:.1f} ms",
        f"{cell['cpu_seconds'] / 3600:.2f}",
    )  # fmt: skip


FIGURES: dict[str, Callable[[], str]] = {
    "against-progress": against_progress,
    "against-summary": against_summary,
    "against-table": against_table,
}
"""The parts by the names that markers use."""
