"""The picture of a study, as PNG: errors of the variants, over FLOPs, at every depth, and while training."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from statistics import fmean
from typing import Any

from .drawing import literal, own_style, png_of
from .study import StudyOutcome, VariantOutcome

Panel = Callable[[Any, StudyOutcome, dict[str, str]], None]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe and Ito's palette, whose colours people of every colour vision tell apart, with a brown for the yellow."""

MAX_WIDTH = 2
"""Panels in a row."""


@own_style()
def study_picture(outcome: StudyOutcome) -> bytes:
    """Returns the picture of a study that has at least one result."""
    panels = _panels(outcome)
    names = [variant.training.name for variant in outcome.variants]
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    from matplotlib.figure import Figure

    columns = min(MAX_WIDTH, len(panels))
    rows = math.ceil(len(panels) / columns)
    height = max(3.4, 1.2 + 0.36 * len(names))
    figure = Figure(figsize=(5.6 * columns, height * rows + 0.5), layout="constrained", dpi=130)
    all_axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(all_axes, panels, strict=False):
        panel(axes, outcome, colours)
        axes.grid(alpha=0.25)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    figure.suptitle(literal(outcome.study.title))
    return png_of(figure)


def _panels(outcome: StudyOutcome) -> list[Panel]:
    panels: list[Panel] = [_errors]
    if len({variant.flops for variant in outcome.variants}) > 1:
        panels.append(_over_flops)
    measure = outcome.study.measure
    if "depths" in measure:
        panels.append(_depths)
    if "curves" in measure:
        panels.append(_curves)
    if "coefficients" in measure and any(
        epoch.coefficients for variant in outcome.variants for result in variant.results.values()
        for epoch in result.epochs
    ):  # fmt: skip
        panels.append(_coefficients)
    return panels


def _errors(axes: Any, outcome: StudyOutcome, colours: dict[str, str]) -> None:
    """Draws each variant's error: a dot per seed, the mean, and its interval."""
    for row, variant in enumerate(outcome.variants):
        error, colour = variant.error, colours[variant.training.name]
        if error is None:
            continue
        if error.seeds > 1:
            axes.plot([error.low, error.high], [row, row], color=colour, linewidth=2)
        axes.scatter(list(variant.errors.values()), [row] * error.seeds, s=12, color="0.35", zorder=3)
        axes.scatter([error.mean], [row], marker="D", s=40, color=colour, zorder=2)
    axes.set_yticks(range(len(outcome.variants)), [literal(variant.training.name) for variant in outcome.variants])
    axes.set_ylim(len(outcome.variants) - 0.5, -0.5)
    axes.set_xlabel("test error, % (dots: seeds; diamond: mean, with its 90 % interval)")
    values = [value for variant in outcome.variants for value in variant.errors.values()]
    margin = 0.75 * (max(values) - min(values)) + 0.5  # an interval of two seeds may be many times wider
    axes.set_xlim(min(values) - margin, max(values) + margin)


def _over_flops(axes: Any, outcome: StudyOutcome, colours: dict[str, str]) -> None:
    points = [(variant, error) for variant in outcome.variants if (error := variant.error) is not None]
    for variant, error in points:
        name = variant.training.name
        spread = error.spread if error.seeds > 1 else 0
        axes.errorbar(variant.flops / 1e6, error.mean, yerr=spread, marker="D", color=colours[name], capsize=3)
        axes.annotate(
            literal(name), (variant.flops / 1e6, error.mean), xytext=(5, 5), textcoords="offset points", fontsize=8
        )  # fmt: skip
    axes.margins(x=0.2, y=0.15)
    axes.set_xlabel("MFLOPs (multiply-adds of one image)")
    axes.set_ylabel("test error, % (mean ± deviation)")


def _depths(axes: Any, outcome: StudyOutcome, colours: dict[str, str]) -> None:
    """Draws the error at every depth over its FLOPs, means over the seeds."""
    for variant in outcome.variants:
        errors: dict[int, list[float]] = defaultdict(list)
        for result in variant.results.values():
            for score in result.depths:
                errors[score.flops].append(100 * score.error)
        flops = sorted(errors)
        name = variant.training.name
        axes.plot(
            [value / 1e6 for value in flops], [fmean(errors[value]) for value in flops], marker="o", markersize=4,
            color=colours[name], label=literal(name),
        )  # fmt: skip
    axes.set_xlabel("MFLOPs of the depth (multiply-adds)")
    axes.set_ylabel("test error, %")
    axes.legend(fontsize=8)


def _curves(axes: Any, outcome: StudyOutcome, colours: dict[str, str]) -> None:
    """Draws the training loss and the validation error after every epoch, means over the seeds."""
    for variant in outcome.variants:
        errors: dict[int, list[float]] = defaultdict(list)
        for result in variant.results.values():
            for epoch in result.epochs:
                errors[epoch.images].append(100 * epoch.error)
        images = sorted(errors)
        name = variant.training.name
        axes.plot(
            [count / 1e3 for count in images], [fmean(errors[count]) for count in images], marker="o", markersize=3,
            color=colours[name], label=literal(name),
        )  # fmt: skip
    axes.set_xlabel("training images seen, thousands")
    axes.set_ylabel("validation error, %")
    axes.legend(fontsize=8)


def _coefficients(axes: Any, outcome: StudyOutcome, colours: dict[str, str]) -> None:
    """Draws how the residual coefficients move from 1: means and ranges, of identity paths and of branches."""
    for variant in outcome.variants:
        name = variant.training.name
        for kind, style in (("identity", "--"), ("branch", "-")):
            by_images = _coefficients_by_images(variant, kind)
            if not by_images:
                continue
            images = sorted(by_images)
            thousands = [count / 1e3 for count in images]
            axes.plot(
                thousands, [fmean(by_images[count]) for count in images], linestyle=style, marker="o", markersize=3,
                color=colours[name], label=literal(f"{name}: {kind}"),
            )  # fmt: skip
            low, high = ([choose(by_images[count]) for count in images] for choose in (min, max))
            axes.fill_between(thousands, low, high, color=colours[name], alpha=0.12, linewidth=0)
    axes.set_xlabel("training images seen, thousands")
    axes.set_ylabel("residual coefficients: mean and range")
    axes.legend(fontsize=8)


def _coefficients_by_images(variant: VariantOutcome, kind: str) -> dict[int, list[float]]:
    """Returns the coefficients of all seeds whose names end in `kind`, by images seen; all begin at 1."""
    by_images: dict[int, list[float]] = defaultdict(list)
    for result in variant.results.values():
        for epoch in result.epochs:
            values = [value for name, value in (epoch.coefficients or {}).items() if name.endswith(f"/{kind}")]
            by_images[epoch.images] += values
    found = {images: values for images, values in by_images.items() if values}
    return {0: [1.0], **found} if found else {}
