"""What the trainings say: test errors of each kind at each budget, and how the others differ from what search found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib

from benchmarks.against.setting import KINDS, Setting
from benchmarks.sret_bench.tables import Line

matplotlib.use("Agg")
from matplotlib import pyplot as plt

MEASURED = "test_error", "flops", "params", "latency_ms", "cpu_seconds"


def figures(setting: Setting, searches: Sequence[Line], trainings: Sequence[Line]) -> dict[str, Any]:
    """Returns means over the seeds that are there, their number, and differences in pairs of equal seed."""
    cells = []
    for budget in setting.budgets:
        found = _by_seed(trainings, "found", budget)
        for kind in setting.kinds:
            lines = _by_seed(trainings, kind, budget)
            cell: dict[str, Any] = {"kind": kind, "budget": budget, "seeds": len(lines)}
            if lines:
                cell |= {name: round(fmean(line[name] for line in lines.values()), 6) for name in MEASURED}
                errors = [line["test_error"] for line in lines.values()]
                cell["test_error_sd"] = round(stdev(errors), 6) if len(errors) > 1 else None
                common = sorted(lines.keys() & found.keys())
                gaps = [lines[seed]["test_error"] - found[seed]["test_error"] for seed in common]
                cell["less_found"] = [round(gap, 6) for gap in gaps] if kind != "found" else None
            cells.append(cell)
    planned = len(setting.kinds) * len(setting.budgets) * len(setting.seeds)
    return {
        "images": setting.images,
        "progress": {
            "searches": [len(searches), len(setting.budgets)],
            "trainings": [len(trainings), planned],
        },
        "searches": [{name: line[name] for name in ("budget", "flops", "command")} for line in searches],
        "cells": cells,
    }


def _by_seed(trainings: Sequence[Line], kind: str, budget: int) -> dict[int, Line]:
    return {line["seed"]: line for line in trainings if (line["kind"], line["budget"]) == (kind, budget)}


def draw(path: Path, content: dict[str, Any]) -> None:
    """Draws test error against FLOPs, a line per kind, with the standard deviation over seeds."""
    figure, panel = plt.subplots(figsize=(7, 4.2))
    for kind, marker in zip(KINDS, "osD^vP", strict=True):
        cells = [cell for cell in content["cells"] if cell["kind"] == kind and cell["seeds"]]
        if cells:
            panel.errorbar(
                [cell["flops"] / 1e6 for cell in cells],
                [100 * cell["test_error"] for cell in cells],
                yerr=[100 * (cell["test_error_sd"] or 0) for cell in cells],
                marker=marker, capsize=3, label=kind,
            )  # fmt: skip
    panel.set_xscale("log")
    budgets = sorted({cell["budget"] for cell in content["cells"] if cell["seeds"]})
    panel.set_xticks([budget / 1e6 for budget in budgets], labels=[f"{budget / 1e6:g}" for budget in budgets])
    panel.minorticks_off()
    panel.set_xlabel("multiply-adds for one image, millions")
    panel.set_ylabel("test error, %")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
