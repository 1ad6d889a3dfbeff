"""Draws the front as a PNG picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sret_nas.files import write_atomically

from ..runs.options import SearchOptions
from ..runs.records import Trial


def write_front_plot(
    path: Path, trials: Sequence[Trial], front: Sequence[Trial], best: Trial, options: SearchOptions,
    header: dict[str, Any],
) -> None:  # fmt: skip
    """Plots validation error against FLOPs, parameters and, if the search uses it, predicted latency.

    The PNG shows all finished and stopped trials, the front, the best trial, and lines of the budget.
    """
    from matplotlib.figure import Figure

    space, data = header["space"], header["data"]
    panels = _panels(options, header)
    figure = Figure(figsize=(5.5 * len(panels), 4.6), layout="constrained", dpi=130)
    left, *others = figure.subplots(1, len(panels), sharey=True)
    for axes, (cost, unit, label, bounds) in zip((left, *others), panels, strict=True):
        _scatter(axes, trials, front, cost, unit)
        _mark(axes, best, cost, unit)
        for bound in bounds:
            if bound is not None:
                axes.axvline(bound / unit, color="tab:red", linestyle="--", linewidth=1.2, label="budget")
        axes.set_xlabel(label)
        axes.grid(alpha=0.25)
    left.set_ylabel(f"validation error of the proxy, %\n({data['classes']} classes, {options.image_size} px)")
    handles, labels = left.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    left.legend(unique.values(), unique.keys(), framealpha=0.9)
    figure.suptitle(f"{space['name']}: {sum(t.result is not None for t in trials)} trials, {options.describe_budget()}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def _panels(
    options: SearchOptions, header: dict[str, Any]
) -> list[tuple[str, float, str, tuple[int | None, int | None]]]:
    """Returns for each cost its name in a result, its unit, its label, and its bounds."""
    space, budget = header["space"], options.budget
    target = f"{space['image_size']} px, {space['classes']} classes"
    panels: list[tuple[str, float, str, tuple[int | None, int | None]]] = [
        ("flops", 1e9, f"GFLOPs (multiply-adds, {target})", (budget.flops_min, budget.flops_max)),
        ("params", 1e6, f"million parameters ({space['classes']} classes)", (budget.params_min, budget.params_max)),
    ]
    if options.uses_latency:
        setting = header["latency"]["profile"]["setting"]
        label = f"predicted latency, ms (batch {setting['batch_size']}, {setting['device']}, {setting['threads']} thr.)"
        panels.append(("latency_us", 1e3, label, (None, options.latency_max)))
    return panels


def _scatter(axes: Any, trials: Sequence[Trial], front: Sequence[Trial], cost: str, unit: float) -> None:
    front_numbers = {trial.number for trial in front}
    stopped = [trial.partial[-1] for trial in trials if trial.is_stopped]
    if stopped:
        points = [(getattr(result.target, cost) / unit, 100 * result.error) for result in stopped]
        axes.scatter(*zip(*points, strict=True), label="stopped early", color="0.75", s=14, marker="x", linewidths=0.8)
    for is_front, label, style in (
        (False, "tried", {"color": "0.65", "s": 22}),
        (True, "Pareto-optimal", {"color": "tab:blue", "s": 46, "zorder": 3}),
    ):
        points = [
            (getattr(trial.result.target, cost) / unit, 100 * trial.result.error)
            for trial in trials
            if trial.result is not None and (trial.number in front_numbers) == is_front
        ]
        if points:
            axes.scatter(*zip(*points, strict=True), label=label, **style)


def _mark(axes: Any, best: Trial, cost: str, unit: float) -> None:
    assert best.result is not None
    point = (getattr(best.result.target, cost) / unit, 100 * best.result.error)
    axes.scatter(*point, label="best.yaml", marker="*", s=190, color="tab:orange", edgecolors="black", zorder=4)
