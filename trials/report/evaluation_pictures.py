"""The pictures of an evaluation, as PNG: operating points, calibration, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sret_nas.errors import printable
from sret_nas.plurals import counted

from .drawing import literal, own_style, png_of
from .evaluation import Evaluation, OperatingPoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NAMED_CLASSES = 40
"""Classes up to which the picture of the confusion has their names."""

MAX_COUNTED_CLASSES = 20
"""Classes up to which it has the number of images in each field."""

MAX_NAME = 24
"""Characters of a name at an axis."""


@own_style()
def depths_picture(evaluation: Evaluation) -> bytes:
    """Returns top-1 accuracy against FLOPs and, if it was measured, latency, with a point for each depth."""
    unit, letter = (1e9, "G") if evaluation.deepest.flops >= 1e9 else (1e6, "M")
    panels: list[tuple[str, list[float]]] = [
        (f"{letter}FLOPs (multiply-adds of one image)", [point.flops / unit for point in evaluation.points])
    ]
    latencies = [point.latency_ms for point in evaluation.points if point.latency_ms is not None]
    if len(latencies) == len(evaluation.points):
        panels.append((f"latency of one image, ms ({evaluation.device})", latencies))
    figure = _figure(5.5 * len(panels), 4.6)
    axes_of_panels: list[Any] = list(np.atleast_1d(figure.subplots(1, len(panels), sharey=True)))
    for axes, (label, costs) in zip(axes_of_panels, panels, strict=True):
        accuracy = [100 * point.scores.accuracy for point in evaluation.points]
        front = _front(costs, accuracy)
        axes.plot([costs[i] for i in front], [accuracy[i] for i in front], color="tab:blue", linewidth=1, zorder=1)
        axes.scatter(costs, accuracy, color=["tab:blue" if i in front else "0.6" for i in range(len(costs))], zorder=2)
        for point, x, y in zip(evaluation.points, costs, accuracy, strict=True):
            axes.annotate(point.name, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
        axes.set_xlabel(label)
        axes.grid(alpha=0.25)
        axes.margins(x=0.12)
    images = counted(evaluation.deepest.scores.images, "image")
    axes_of_panels[0].set_ylabel(f"top-1 accuracy, % ({evaluation.part}, {images})")
    low, high = evaluation.deepest.scores.accuracy_interval
    margin = 50 * (high - low)
    figure.suptitle(
        f"One file of weights, by recursions of each stage; 95 % interval of each point: ± {margin:.1f} points"
    )
    return png_of(figure)


def _front(costs: Sequence[float], accuracy: Sequence[float]) -> list[int]:
    """Returns the points that no other one beats in cost and accuracy, the cheapest first."""
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], -accuracy[i])):
        if not front or accuracy[index] > accuracy[front[-1]]:
            front.append(index)
    return front


@own_style()
def calibration_picture(evaluation: Evaluation) -> bytes:
    """Returns accuracy against confidence in bins, and the number of images in each."""
    figure = _figure(5, 5.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    points: list[tuple[str, OperatingPoint, str]] = [
        (f"recursions {evaluation.deepest.name}", evaluation.deepest, "tab:blue")
    ]
    if len(evaluation.points) > 1:
        points.append((f"recursions {evaluation.points[0].name}", evaluation.points[0], "tab:orange"))
    above.plot([0, 100], [0, 100], color="0.6", linestyle="--", linewidth=1)
    for label, point, colour in points:
        bins = [one for one in point.scores.bins if one.confidence is not None and one.accuracy is not None]
        x, y = [100 * (one.confidence or 0) for one in bins], [100 * (one.accuracy or 0) for one in bins]
        error = 100 * point.scores.calibration_error
        above.plot(x, y, marker="o", markersize=4, color=colour, label=f"{label}, ECE {error:.2f} %")
    bins_of_deepest = evaluation.deepest.scores.bins
    below.bar(
        [50 * (one.low + one.high) for one in bins_of_deepest], [one.images for one in bins_of_deepest],
        width=90 / len(bins_of_deepest), color="tab:blue",
    )  # fmt: skip
    above.set_ylabel("accuracy in the bin, %")
    below.set_ylabel("images")
    below.set_xlabel("confidence, %")
    above.legend()
    for axes in (above, below):
        axes.grid(alpha=0.25)
    return png_of(figure)


@own_style()
def confusion_picture(evaluation: Evaluation) -> bytes:
    """Returns the share of each true class (row) that was taken for each class (column), as colours."""
    assert evaluation.confusion is not None
    counts = evaluation.confusion
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(3 + 0.3 * classes, 5, 12))
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    picture = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    figure.colorbar(picture, ax=axes, label="share of the true class, %")
    if classes <= MAX_NAMED_CLASSES:
        names = [literal(printable(name, MAX_NAME)) for name in evaluation.class_names]
        axes.set_xticks(range(classes), names, rotation=90)
        axes.set_yticks(range(classes), names)
    if classes <= MAX_COUNTED_CLASSES:
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{counts[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    images = counted(evaluation.deepest.scores.images, "image")
    axes.set_title(f"{images} ({evaluation.part}), recursions {evaluation.deepest.name}")
    return png_of(figure)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=130)
