"""Draws the front as a PNG picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sret_nas.files import write_atomically
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity

from ..runs.objective_texts import error_text
from ..runs.objectives import Objective, error_named, error_of, final_error_of, final_test_error_of
from ..runs.options import SearchOptions
from ..runs.recommendation import BudgetCost, Recommendations
from ..runs.trial import Trial
from .drawing import literal, own_style, png_of
from .error_axis import end_of_axis

GREY, BLUE, ORANGE, GREEN, RED = "0.65", "tab:blue", "tab:orange", "tab:green", "tab:red"

BudgetBounds = tuple[float | None, float | None]


@own_style()
def write_front_plot(
    path: Path, trials: Sequence[Trial], front: Sequence[Trial], best: Trial, options: SearchOptions,
    header: dict[str, Any], recommended: Recommendations | None,
) -> None:  # fmt: skip
    """Plots errors against FLOPs, parameters and, if the search uses it, predicted latency, on log axes.

    The PNG shows all finished and stopped trials, the front as a step line, what is recommended, the errors after
    fine-tuning and on the test part, and lines of the budget.
    """
    from matplotlib.figure import Figure

    space, data = header["space"], header["data"]
    panels = _panels(options, header)
    figure = Figure(figsize=(4.9 * len(panels), 5.2), layout="constrained", dpi=130)
    left, *others = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    end = _end_of_axis(trials, front, best, options.objectives, recommended)
    for axes, (cost, label, bounds) in zip((left, *others), panels, strict=True):
        _scatter(axes, trials, front, cost, options)
        _mark(axes, trials, best, cost, options, recommended)
        for bound in bounds:
            if bound is not None:
                axes.axvline(bound, color=RED, linestyle="--", linewidth=1.2, label="budget")
        _show_above(axes, trials, cost, options.objectives, end)
        _scale(axes, cost)
        axes.set_xlabel(label)
        axes.grid(alpha=0.25)
    left.set_ylabel(
        f"{error_text(options.objectives).proxy_title}, % ({data['classes']} classes, {options.image_size} px)"
    )
    handles, labels = left.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=4, frameon=False)
    finished = sum(trial.is_finished for trial in trials)
    figure.suptitle(f"{literal(space['name'])}: {counted(finished, 'trial')}, {options.describe_budget()}")
    write_atomically(path, png_of(figure))


def _panels(options: SearchOptions, header: dict[str, Any]) -> list[tuple[BudgetCost, str, BudgetBounds]]:
    """Returns the name of each cost, its label, and its bounds; latency in milliseconds."""
    space, budget = header["space"], options.budget
    target = f"{space['image_size']} px, {space['classes']} classes"
    panels: list[tuple[BudgetCost, str, BudgetBounds]] = [
        ("flops", f"FLOPs (multiply-adds, {target})", (budget.flops_min, budget.flops_max)),
        ("params", f"parameters ({space['classes']} classes)", (budget.params_min, budget.params_max)),
    ]
    if options.uses_latency:
        setup = header["latency"]["profile"]["setting"]
        label = f"predicted latency, ms (batch {setup['batch_size']}, {setup['device']}, {setup['threads']} thr.)"
        most = options.latency_max
        panels.append(("latency", label, (None, None if most is None else most / 1000)))
    return panels


def _cost(trial: Trial, cost: BudgetCost) -> float:
    assert trial.result is not None
    target = trial.result.target
    if cost == "latency":
        return (target.latency_us or 0) / 1000
    return float(target.flops if cost == "flops" else target.params)


def _scatter(
    axes: Any, trials: Sequence[Trial], front: Sequence[Trial], cost: BudgetCost, options: SearchOptions
) -> None:
    if stopped := _stopped(trials, cost, options.objectives):
        axes.scatter(*zip(*stopped, strict=True), label="stopped early", color="0.75", s=14, marker="x",
                     linewidths=0.8)  # fmt: skip
    on_front = {trial.number for trial in front}
    tried = [trial for trial in trials if trial.is_finished and trial.number not in on_front]
    _points(axes, tried, cost, options.objectives, "tried", color=GREY, s=18)
    if error_named(options.objectives) in options.objectives and cost in options.objectives:
        ordered = sorted(front, key=lambda trial: _cost(trial, cost))
        xs, ys = [_cost(trial, cost) for trial in ordered], [_error(trial, options.objectives) for trial in ordered]
        axes.step(xs, ys, where="post", color=BLUE, linewidth=1.2, zorder=2)
    _points(axes, front, cost, options.objectives, "Pareto-optimal", color=BLUE, s=36, zorder=3)


def _mark(
    axes: Any, trials: Sequence[Trial], best: Trial, cost: BudgetCost, options: SearchOptions,
    recommended: Recommendations | None,
) -> None:  # fmt: skip
    """Marks what is recommended, the errors after fine-tuning and on the test part, and the best, with its number."""
    objectives = options.objectives
    numbers = set() if recommended is None else {network.number for network in recommended.networks}
    chosen = [trial for trial in trials if trial.number in numbers and trial.is_finished]
    _points(axes, chosen, cost, objectives, "recommended", marker="D", s=46, facecolors="none", edgecolors=ORANGE,
            linewidths=1.6, zorder=4)  # fmt: skip
    for trial in chosen:
        axes.annotate(f"{trial.number}", (_cost(trial, cost), _error(trial, objectives)), xytext=(6, 6),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    finals = [(trial, trial.finals["fine-tuned"]) for trial in trials if "fine-tuned" in trial.finals]
    tested = [(_cost(trial, cost), 100 * final_test_error_of(final, objectives)) for trial, final in finals]
    tested += [
        (_cost(trial, cost), 100 * trial.test.error)
        for trial in trials
        if trial.test is not None and trial.result is not None
    ]
    tuned = [(_cost(trial, cost), 100 * final_error_of(final, objectives)) for trial, final in finals]
    test = "test, full depth" if options.scores_depths and not finals else "test"
    for label, marker, points in (("fine-tuned, validation", "o", tuned), (test, "s", tested)):
        if points:
            axes.scatter(*zip(*points, strict=True), label=label, marker=marker, s=30, facecolors="none",
                         edgecolors=GREEN, zorder=4)  # fmt: skip
    _points(axes, [best], cost, objectives, "best.yaml", marker="*", s=190, color=ORANGE, edgecolors="black", zorder=5)


def _end_of_axis(
    trials: Sequence[Trial], front: Sequence[Trial], best: Trial, objectives: Sequence[Objective],
    recommended: Recommendations | None,
) -> float | None:  # fmt: skip
    """Returns the largest error that the picture shows, in percent; None if it shows all."""
    numbers = set() if recommended is None else {network.number for network in recommended.networks}
    marked = [*front, best, *(trial for trial in trials if trial.number in numbers and trial.is_finished)]
    seen = [_error(trial, objectives) for trial in marked]
    for trial in trials:
        if (final := trial.finals.get("fine-tuned")) is not None:
            seen += [100 * final_error_of(final, objectives), 100 * final_test_error_of(final, objectives)]
        if trial.test is not None:
            seen.append(100 * trial.test.error)
    return end_of_axis(seen, [error for _, error in _scored(trials, "flops", objectives)])


def _show_above(
    axes: Any, trials: Sequence[Trial], cost: BudgetCost, objectives: Sequence[Objective], end: float | None
) -> None:
    """Ends the axis of errors, if it is to end, and marks networks with larger errors by triangles at its edge."""
    if end is None:
        return
    axes.set_ylim(top=end)
    above = [value for value, error in _scored(trials, cost, objectives) if error > end]
    axes.scatter(above, [end] * len(above), label="error above the picture", color=GREY, s=24, marker="^",
                 clip_on=False)  # fmt: skip


def _scored(trials: Sequence[Trial], cost: BudgetCost, objectives: Sequence[Objective]) -> list[tuple[float, float]]:
    """Returns cost and error, in percent, of all trials that finished or were stopped early."""
    finished = [(_cost(trial, cost), _error(trial, objectives)) for trial in trials if trial.is_finished]
    return finished + _stopped(trials, cost, objectives)


def _stopped(trials: Sequence[Trial], cost: BudgetCost, objectives: Sequence[Objective]) -> list[tuple[float, float]]:
    stopped = [trial.partial[-1] for trial in trials if trial.is_stopped]
    name, unit = ("latency_us", 1000) if cost == "latency" else (cost, 1)
    return [((getattr(result.target, name) or 0) / unit, 100 * error_of(result, objectives)) for result in stopped]


def _points(
    axes: Any, trials: Sequence[Trial], cost: BudgetCost, objectives: Sequence[Objective], label: str, **style: Any
) -> None:
    if trials:
        errors = [_error(trial, objectives) for trial in trials]
        axes.scatter([_cost(trial, cost) for trial in trials], errors, label=label, **style)


def _error(trial: Trial, objectives: Sequence[Objective]) -> float:
    assert trial.result is not None
    return 100 * error_of(trial.result, objectives)


def _scale(axes: Any, cost: BudgetCost) -> None:
    """Sets a log axis whose ticks have units."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    steps = (1.0,) if high / low > 50 else (1.0, 2.0, 5.0) if high / low > 6 else (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}" if cost == "latency" else format_quantity(round(value)))
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
