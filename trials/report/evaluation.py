"""The output of `evaluate` on the terminal: operating points, calibration and classes of a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sret_nas.arrays import IntArray
from sret_nas.errors import printable
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity

from ..console import print_line
from ..training.classification_scores import (
    NUM_BINS,
    ClassificationScores,
    ClassScore,
    balanced_accuracy,
    balanced_accuracy_interval,
    class_scores,
)
from ..training.error_intervals import format_interval

NARROW = 62
"""Columns of a terminal below which the table leaves out parameters and calibration."""

SHOWN_CLASSES = 10
"""Classes in the table on the terminal: those with the lowest recall."""

MAX_NAME = 40
"""Characters of a class's name in a table."""


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A network run at one depth: its cost and its scores."""

    depth: tuple[int, ...]
    """Recursions of each stage."""
    flops: int
    """Multiply-adds of one image."""
    params: int
    """Parameters that this depth uses."""
    latency_ms: float | None
    """Median over passes of one image; None if it was not measured."""
    scores: ClassificationScores

    @property
    def name(self) -> str:
        """E.g. `2,1,1`."""
        return ",".join(map(str, self.depth))


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured of a network, and on what."""

    network: str
    """The file or directory."""
    arch_id: str
    part: str
    origin: str
    """The origin of the images, in words."""
    class_names: tuple[str, ...]
    """In the order of the logits."""
    image_size: int
    device: str
    threads: int
    points: tuple[OperatingPoint, ...]
    """The shallowest first; the last is the deepest."""
    confusion: IntArray | None
    """Images of each true class (row) by predicted class, at the deepest point; None for too many classes."""
    has_batch_norm: bool
    """Whether the stem has BatchNorm, whose statistics all points share."""
    details: dict[str, Any]
    """Further plain data for the JSON file: preprocessing, digests, versions."""

    @property
    def deepest(self) -> OperatingPoint:
        return self.points[-1]

    @property
    def balanced_accuracy(self) -> float | None:
        """The mean recall of the classes at the deepest point; None if they were not counted."""
        return None if self.confusion is None else balanced_accuracy(self.confusion)

    @property
    def balanced_accuracy_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the balanced accuracy on new images; None if classes were not counted."""
        return None if self.confusion is None else balanced_accuracy_interval(self.confusion)

    @property
    def classes(self) -> list[ClassScore]:
        """The scores of all classes at the deepest point; none if they were not counted."""
        return [] if self.confusion is None else class_scores(self.confusion)


def show_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Prints the operating points, the calibration, and the classes that are recognised worst."""
    scores, depth = evaluation.deepest.scores, evaluation.deepest.name
    console.print(_points_table(evaluation, console.width))
    interval = format_interval(scores.accuracy_interval)
    print_line(console, f"Top-1 at {depth}: {_percent(scores.accuracy)} % (95 % interval {interval})")
    if evaluation.balanced_accuracy is not None and len({one.images for one in evaluation.classes if one.images}) > 1:
        balanced = _percent(evaluation.balanced_accuracy)
        interval = format_interval(evaluation.balanced_accuracy_interval or (0.0, 1.0))
        text = f"Balanced (mean over classes) at {depth}: {balanced} % (95 % interval {interval})"
        console.print(text, highlight=False)
    if len(evaluation.points) > 1 and evaluation.has_batch_norm:
        console.print(
            "The stem comes before all recursions: its BatchNorm statistics are the same at every depth, and need no "
            "recalibration.",
            highlight=False,
        )
    console.print(_calibration_line(scores, depth), highlight=False)
    classes = [one for one in evaluation.classes if one.images]
    if classes:
        console.print(_class_table(classes, evaluation, console.width))


def _points_table(evaluation: Evaluation, width: int) -> Table:
    is_narrow = width < NARROW
    has_latency = evaluation.deepest.latency_ms is not None
    has_top5 = evaluation.deepest.scores.top5_accuracy is not None
    where = "CPU" if evaluation.device == "cpu" else evaluation.device
    threads = f", {counted(evaluation.threads, 'thread')}" if where == "CPU" else ""
    title = f"{counted(evaluation.deepest.scores.images, 'image')} ({evaluation.part}), {evaluation.image_size} px"
    if has_latency:
        title += f"; ms of one image, {escape(where)}{threads}"
    table = _table(title)
    table.add_column("recur-\nsions", overflow="fold")
    columns = ["FLOPs"]
    columns += [] if is_narrow else ["params"]
    columns += ["ms"] if has_latency else []
    columns += ["top-1\n%"]
    columns += ["top-5\n%"] if has_top5 else []
    columns += ["CE\nnats"]
    columns += [] if is_narrow else ["ECE\n%"]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for point in evaluation.points:
        scores = point.scores
        cells = [format_quantity(point.flops)]
        cells += [] if is_narrow else [format_quantity(point.params)]
        cells += [f"{point.latency_ms:.3g}"] if point.latency_ms is not None else []
        cells += [_percent(scores.accuracy)]
        cells += [_percent(scores.top5_accuracy)] if scores.top5_accuracy is not None else []
        cells += [f"{scores.cross_entropy:.4f}"]
        cells += [] if is_narrow else [_percent(scores.calibration_error)]
        table.add_row(point.name, *cells)
    return table


def _calibration_line(scores: ClassificationScores, depth: str) -> str:
    confidence = sum((one.confidence or 0.0) * one.images for one in scores.bins) / scores.images
    return (
        f"Calibration at {depth}: expected error (ECE) {_percent(scores.calibration_error)} % in {NUM_BINS} bins of "
        f"equal width; mean confidence {_percent(confidence)} %, accuracy {_percent(scores.accuracy)} %."
    )


def _class_table(classes: Sequence[ClassScore], evaluation: Evaluation, width: int) -> Table:
    shown = sorted(classes, key=lambda one: (one.recall or 0.0, -one.images))[:SHOWN_CLASSES]
    names = evaluation.class_names
    title = f"Classes at {evaluation.deepest.name}"
    if len(shown) < len(classes):
        title += f": the {len(shown)} of {len(classes):,} with the lowest recall"
    table = _table(title)
    table.add_column("class", overflow="fold")
    for column in ("images", "recall\n%", "precision\n%" if width >= NARROW else "prec.\n%"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("most often\ntaken for", overflow="fold")
    for one in shown:
        other = "" if one.taken_for is None else f"{_name(names[one.taken_for])} ({one.taken_for_images:,})"
        rates = (_percent(one.recall), _percent(one.precision))
        table.add_row(_name(names[one.label]), f"{one.images:,}", *rates, other)
    return table


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="italic",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _name(text: str) -> str:
    return escape(printable(text, MAX_NAME))


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}"
