"""The figures of whole searches at equal time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import fmean, median
from typing import Any

from docs.figures.tables import load, table


def end_to_end_table(file: str = "end_to_end") -> str:
    rows = []
    for name, entry in load(file)["entries"].items():
        runs = entry["runs"]
        volumes = [run["hypervolume"] for run in runs]
        rows.append(
            (
                name,
                f"{entry['seconds']:.0f}",
                f"{median(run['networks'] for run in runs):.0f}",
                f"{median(volumes):.4f} ({min(volumes):.4f} to {max(volumes):.4f})",
                f"{100 * fmean(run['mean_test_error'] for run in runs):.1f} %",
                *(f"{100 * error:.1f} %" for error in (_error_at(runs, 2), _error_at(runs, 4))),
            )
        )
    header = ["search", "core seconds", "networks", "hypervolume, median (range)", "mean test error", "at 1 MFLOPs"]
    return table([*header, "at 2 MFLOPs"], rows)


def without_worst_text() -> str:
    """Returns mean errors of the later comparison without the seed in which the search from scratch came least far."""
    entries = load("end_to_end_again")["entries"]
    scratch, inherits, _ = (entry["runs"] for entry in entries.values())
    worst = min(scratch, key=lambda run: int(run["networks"]))["seed"]
    means = [
        100 * fmean(run["mean_test_error"] for run in runs if run["seed"] != worst) for runs in (scratch, inherits)
    ]
    return f"{means[0]:.1f} %, that of the search with a supernet {means[1]:.1f} %"


def _error_at(runs: list[dict[str, Any]], budget: int) -> float:
    """Returns the median test error of what was recommended for a budget; 65 % where nothing was."""
    found = [run["recommended"][budget] for run in runs]
    return median(network["test_error"] if network else 0.65 for network in found)


def early_stopping_table() -> str:
    rows = []
    for name, entry in load("early_stopping")["entries"].items():
        half, end = ([volumes[at] for volumes in entry["volumes"]] for at in (len(entry["volumes"][0]) // 2 - 1, -1))
        rows.append(
            (
                name,
                f"{median(entry['begun']):.0f}",
                f"{median(entry['ended']):.0f}",
                f"{median(half):.3f}",
                f"{median(end):.3f} ({min(end):.3f} to {max(end):.3f})",
            )
        )
    return table(["search", "trials begun", "finished", "hypervolume at half time", "at the end (range)"], rows)


FIGURES: dict[str, Callable[[], str]] = {
    "end-to-end-table": end_to_end_table,
    "end-to-end-again-table": partial(end_to_end_table, "end_to_end_again"),
    "end-to-end-again-without-worst": without_worst_text,
    "early-stopping-table": early_stopping_table,
}
"""The parts by the names that markers use."""
