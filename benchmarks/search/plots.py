"""Pictures of a problem: regret against evaluations, and the attainment surfaces of the strategies' fronts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")  # no screen is needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator

from benchmarks.search.metrics import attainment
from benchmarks.search.runs import Line
from benchmarks.search.summary import Known
from sret_nas.arrays import FloatArray

COLOURS = {
    "random": "#8c8c8c", "nsga2-20": "#1f77b4", "nsga2-50": "#7fb3d9", "tpe": "#9467bd", "stratified": "#bcbd22",
    "nsga2-design": "#17becf", "evolution": "#ff7f0e", "gp": "#2ca02c", "gp-design": "#98df8a", "qlognehvi": "#8c564b",
    "parego": "#17375e", "additive": "#d62728", "additive-8": "#f4a6a6", "additive-before": "#e377c2",
}  # fmt: skip
ATTAINMENT_SHOWN = ("random", "nsga2-20", "evolution", "additive")
QUARTILES = (0.25, 0.5, 0.75)
GRID = 300


def draw_problem(
    path: Path, known: Known, lines: Mapping[str, Mapping[int, Line]]
) -> None:  # fmt: skip
    """Writes one PNG with both panels."""
    curves = {}
    for name, by_seed in lines.items():
        if by_seed:
            shortest = min(len(line["values"]) for line in by_seed.values())
            curves[name] = np.array([known.curve(line)[:shortest] for line in by_seed.values()])
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    figure.suptitle(known.problem.title)
    _draw_curves(left, curves)
    _draw_attainment(right, known, lines)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_curves(axes: Axes, curves: Mapping[str, FloatArray]) -> None:
    """Draws medians, and quartiles as bands; from the fifth evaluation on, before which all curves are noise."""
    for name, table in curves.items():
        evaluations = np.arange(1, table.shape[1] + 1)
        low, middle, high = np.quantile(table, QUARTILES, axis=0)
        axes.plot(evaluations, middle, color=COLOURS[name], label=name, linewidth=2.2 if name == "additive" else 1.4)
        axes.fill_between(evaluations, low, high, color=COLOURS[name], alpha=0.13, linewidth=0)
    axes.set(xlabel="evaluations", ylabel="hypervolume regret (%)", yscale="log")
    axes.set_xlim(5, None)
    shown = np.concatenate([np.quantile(table[:, 4:], QUARTILES, axis=0).ravel() for table in curves.values()])
    positive = shown[shown > 0]
    if len(positive):
        axes.set_ylim(max(positive.min(), 1e-2) * 0.8, positive.max() * 1.1)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda regret, _: f"{regret:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.grid(True, which="both", alpha=0.2)
    axes.legend(fontsize=8, ncols=2)


def _draw_attainment(axes: Axes, known: Known, lines: Mapping[str, Mapping[int, Line]]) -> None:
    """Draws median surfaces as lines, quartiles as bands: at each cost, the value that half of the runs reached or
    beat."""
    value, cost = known.problem.objectives
    box = known.problem.bounds.cost
    grid = np.geomspace(*box, GRID) if known.problem.bounds.log_cost else np.linspace(*box, GRID)
    for name in ATTAINMENT_SHOWN:
        fronts = [np.column_stack([line["values"], line["costs"]]) for line in lines.get(name, {}).values()]
        if not fronts:
            continue
        low, middle, high = (_drawable(attainment(fronts, share, grid)) for share in QUARTILES)
        axes.step(grid, middle, where="post", color=COLOURS[name], label=f"{name}, median", linewidth=1.5)
        axes.fill_between(grid, low, high, step="post", color=COLOURS[name], alpha=0.18, linewidth=0)
    best = known.front[np.argsort(known.front[:, 1])]
    axes.step(best[:, 1], best[:, 0], where="post", color="black", linewidth=0.9, linestyle="--", label="best known")
    axes.set(xlabel=cost, ylabel=value, xlim=box, ylim=(known.problem.bounds.value[0], _top(axes)))
    if box[1] > 3 * box[0]:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.grid(True, which="both", alpha=0.2)
    axes.legend(fontsize=8)


def _top(axes: Axes) -> float:
    """Returns a little above the highest line."""
    centred_levels = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines])
    low, high = np.nanmin(centred_levels), np.nanmax(centred_levels)
    return float(high + 0.05 * (high - low))


def _drawable(surface: FloatArray) -> FloatArray:
    """Replaces infinity by NaN: where nothing was reached, nothing is drawn."""
    return np.where(np.isinf(surface), np.nan, surface)
