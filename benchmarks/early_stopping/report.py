"""Hypervolume against time, with and without early stopping, from the searches on record."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
import numpy as np

from benchmarks.early_stopping.searches import ENTRIES, IMAGES, SECONDS, SEEDS
from benchmarks.end_to_end.report import WORST, front_volume
from benchmarks.end_to_end.setting import BUDGET, VALIDATION_IMAGES
from sret_nas.quantities import format_quantity

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Line = dict[str, Any]
TIMES = tuple(SECONDS * share / 8 for share in range(1, 9))


def figures(searches: list[Line]) -> Line:
    """Returns, for every entry with all its seeds, hypervolumes at `TIMES`, and how many
    trials were begun and ended."""
    entries = {}
    for entry in ENTRIES:
        lines = sorted((line for line in searches if line["entry"] == entry.name), key=lambda line: int(line["seed"]))
        if len(lines) == SEEDS:
            entries[entry.name] = {
                "volumes": [[round(volume_at(line, seconds), 5) for seconds in TIMES] for line in lines],
                "begun": [sum(trial["spent"][0] <= SECONDS for trial in line["trials"]) for line in lines],
                "ended": [len(ended_by(line, SECONDS)) for line in lines],
            }
    return {"times": list(TIMES), "seeds": SEEDS, "entries": entries}


def ended_by(line: Line, seconds: float) -> list[Line]:
    """Returns the trials that had come to their very end by a time."""
    return [
        {"flops": trial["flops"], "test_error": trial["errors"][-1]}
        for trial in line["trials"]
        if trial["shares"][-1] == 1 and trial["spent"][-1] <= seconds
    ]


def volume_at(line: Line, seconds: float) -> float:
    """Returns hypervolume of the networks that a search could show by a time, in validation error and log FLOPs."""
    return front_volume(list(ended_by(line, seconds)))


def markdown(result: Line) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    shown = [time for time in TIMES if time * 4 % SECONDS == 0]
    rows = []
    for name, entry in result["entries"].items():
        at = [TIMES.index(time) for time in shown]
        cells = []
        for position in at:
            volumes = [volumes[position] for volumes in entry["volumes"]]
            cells.append(f"{median(volumes):.3f} ({min(volumes):.3f} to {max(volumes):.3f})")
        rows.append([name, f"{median(entry['begun']):.0f}", f"{median(entry['ended']):.0f}", *cells])
    head = ["search", "trials begun", "trained to their end", *(f"after {time:.0f} s" for time in shown)]
    return "\n".join(
        [
            "# Does early stopping pay?",
            "",
            f"`python -m benchmarks.early_stopping.run`, {result['date']}, {result['cores']} cores, {versions}.",
            "",
            "Searches from scratch on CIFAR-10 at 24 px, in the space of `benchmarks/ranking`, FLOPs at most "
            f"{format_quantity(BUDGET.flops_max or 0)}; a whole trial trains on",
            f"{IMAGES:,} images. {SECONDS} s of processor time of one core each, everything counted; "
            f"{SEEDS} seeds. With rungs trials are",
            "compared after 1/9 and 1/3, and of three one goes on.",
            "",
            "Hypervolume of the networks that were trained to their end, in validation error "
            f"({VALIDATION_IMAGES:,} images, up to {WORST:.0%})",
            "and log FLOPs, as a share of its box: medians (ranges).",
            "",
            "| " + " | ".join(head) + " |",
            "| " + " | ".join("---" for _ in head) + " |",
            *("| " + " | ".join(row) + " |" for row in rows),
            "",
        ]
    )


def draw(path: Path, result: Line) -> None:
    """Draws the median hypervolume against time, a line per search in a band of all seeds."""
    figure, panel = plt.subplots(figsize=(7.5, 4.5))
    for (name, entry), marker in zip(result["entries"].items(), "osD^", strict=False):
        volumes = np.array(entry["volumes"])
        (line,) = panel.plot(result["times"], np.median(volumes, axis=0), marker=marker, label=name)
        panel.fill_between(
            result["times"], volumes.min(axis=0), volumes.max(axis=0), color=line.get_color(), alpha=0.12
        )
    panel.set_xlabel("processor time of one core, s")
    panel.set_ylabel("hypervolume of networks trained to their end")
    panel.set_title(f"CIFAR-10 at 24 px, {result['seeds']} seeds; bands: all of them", fontsize=9)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
