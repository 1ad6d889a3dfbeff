"""Pictures: the best supernet's word against training from scratch; variants side by side; and what more time gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.ranking.report import COSTS, Table
from benchmarks.recorded import Line

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

KINDS = {"tau": "tau, all networks", "tau_in_bins": "tau inside cost bins"}


def draw_networks(path: Path, table: Table, supernet: Line, title: str) -> None:
    """Draws every network of the table: error with inherited weights against its own training; colour is FLOPs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
    flops = table.cost("flops") / 1e6
    for panel, metric, name in ((left, "error", "error"), (right, "cross_entropy", "cross-entropy (nats)")):
        inherited = np.array([network[metric] for network in supernet["networks"]])
        low, high = (
            np.array([best([line[metric] for line in trained]) for trained in table.trainings]) for best in (min, max)
        )
        panel.vlines(inherited, low, high, color="grey", linewidth=1)
        points = panel.scatter(inherited, table.measured(metric), c=np.log10(flops), cmap="viridis", s=28, zorder=2)
        panel.set_xlabel(f"{name}, inherited weights")
        panel.set_ylabel(f"{name}, trained by itself")
        panel.grid(alpha=0.3)
    bar = figure.colorbar(points, ax=right)
    ticks = [value for value in (0.3, 0.5, 1, 2, 4, 7) if flops.min() <= value <= flops.max()]
    bar.set_ticks(np.log10(ticks).tolist(), labels=[f"{value:g}" for value in ticks])
    bar.set_label("M FLOPs")
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_variants(path: Path, result: dict[str, Any], groups: Sequence[tuple[str, list[Line]]]) -> None:
    """Draws tau of each group of supernets (same variant and time, a point per seed), of costs
    alone, and of the truth."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 0.8 + 0.3 * (len(groups) + len(COSTS))), sharey=True)
    for panel, (kind, title) in zip(panels, KINDS.items(), strict=True):
        for row, (_, lines) in enumerate(groups):
            _draw_row(panel, row, lines, kind, "tab:blue")
        for row, ranked in enumerate(result["costs"].values(), start=len(groups)):
            _draw_row(panel, row, [ranked], kind, "tab:orange")
        ceiling = result["noise"]["tau_of_the_truth" + kind.removeprefix("tau")]
        panel.axvline(ceiling, color="black", linestyle=":", label="a perfect prediction")
        panel.set_title(title, fontsize=10)
        panel.grid(alpha=0.3)
    panels[0].set_yticks(range(len(groups) + len(COSTS)), [*(name for name, _ in groups), *COSTS.values()])
    panels[0].invert_yaxis()
    panels[0].legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_row(panel: Axes, row: int, lines: list[Line], kind: str, colour: str) -> None:
    for line in lines:
        panel.plot(line[f"{kind}_interval"], [row, row], color=colour, alpha=0.3, linewidth=2)
        panel.plot(line[kind], row, marker="o", color=colour, markersize=5)


def draw_times(path: Path, result: dict[str, Any], lines: Sequence[Line]) -> None:
    """Draws tau against the time that the supernet was trained for; lines are supernets of one variant."""
    figure, panel = plt.subplots(figsize=(6, 4))
    seconds = sorted({line["seconds"] for line in lines})
    for kind, title in KINDS.items():
        means = [np.mean([line[kind] for line in lines if line["seconds"] == each]) for each in seconds]
        (curve,) = panel.plot(seconds, means, label=title)
        panel.plot([line["seconds"] for line in lines], [line[kind] for line in lines], "o", color=curve.get_color())
        panel.axhline(result["noise"]["tau_of_the_truth" + kind.removeprefix("tau")], color=curve.get_color(), ls=":")
        panel.axhline(max(cost[kind] for cost in result["costs"].values()), color=curve.get_color(), ls="--")
    panel.set_xscale("log")
    panel.set_xticks(seconds, [f"{each}" for each in seconds])
    panel.minorticks_off()
    panel.set_xlabel("training of the supernet, seconds of one core")
    panel.set_title("dotted: a perfect prediction; dashed: the better of FLOPs and parameters alone", fontsize=9)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
