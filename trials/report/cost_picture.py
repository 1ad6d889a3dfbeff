"""Pictures of the number of networks by FLOPs and parameters: as text on the terminal, and as PNG."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.text import Text

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.arch.presets import PUBLISHED
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.errors import UserError
from sret_nas.feasible.cost_cells import Window
from sret_nas.feasible.cost_density import estimate_counts
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.files import write_atomically
from sret_nas.quantities import format_quantity
from sret_nas.space.chain import chain_of
from sret_nas.space.search_space import SearchSpace

from .drawing import literal, own_style, png_of

TEXT_DRAWS, PNG_DRAWS = 98_000, 392_000
"""Draws from which the counts of the cells are estimated."""

_TEXT_ROWS = 18
_PNG_CELLS = (80, 56)
_COLOURS = ("#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70", "#7ad151",
            "#bddf26", "#fde725")  # fmt: skip
"""The colours of viridis by power of ten, as in the PNG."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_MARGIN = 9
"""Columns left of the picture, for a number of parameters and the axis."""


@dataclass(frozen=True)
class CostRegion:
    """Estimated counts of networks in log-spaced cells of FLOPs and parameters.

    `counts` has shape (columns, rows), `flops_ends` (columns + 1,) and `params_ends` (rows + 1,). The bounds of the
    budget are ends of cells, so that every cell is entirely inside or outside.
    """

    space: SearchSpace
    budget: Budget
    flops_ends: IntArray
    params_ends: IntArray
    counts: FloatArray
    draws: int

    @classmethod
    def of(cls, feasible: FeasibleSet, columns: int, rows: int, draws: int) -> CostRegion:
        """Returns the region of the whole space in about `columns` x `rows` cells; it is deterministic."""
        space, budget = feasible.space, feasible.budget
        bounds = Window.of(budget)
        flops, params = (
            _ends(least, most, (low, high + 1), cells)
            for least, most, low, high, cells in zip(
                (feasible.cheapest("flops").flops, feasible.cheapest("params").params),
                (feasible.most_expensive("flops").flops, feasible.most_expensive("params").params),
                bounds.low, bounds.high, (columns, rows), strict=True,
            )
        )  # fmt: skip
        counts = estimate_counts(chain_of(space), (flops, params), draws, np.random.default_rng(0))
        return cls(space, budget, flops, params, counts, draws)

    @property
    def flops_lines(self) -> dict[int, str]:
        """The labels of the bounds on FLOPs, by the position of the cell that begins at the bound."""
        return _lines(self.flops_ends, self.budget.flops_min, self.budget.flops_max)

    @property
    def params_lines(self) -> dict[int, str]:
        """The same for the bounds on parameters."""
        return _lines(self.params_ends, self.budget.params_min, self.budget.params_max)

    @cached_property
    def is_inside(self) -> npt.NDArray[np.bool_]:
        """Whether each cell is inside the budget, in the shape of `counts`."""
        flops, params = self.flops_ends[:-1], self.params_ends[:-1]
        return Window.of(self.budget).contains(flops[:, None], params)


def _lines(ends: IntArray, low: int | None, high: int | None) -> dict[int, str]:
    bounds = [(low, low), (None if high is None else high + 1, high)]
    cell_at = {int(end): cell for cell, end in enumerate(ends)}
    return {cell_at[end]: format_quantity(bound) for end, bound in bounds if end in cell_at and bound is not None}


def _ends(least: int, most: int, bounds: Sequence[int], cells: int) -> IntArray:
    """Returns the ends of about `cells` half-open cells of equal ratio; each bound replaces the nearest ends."""
    ends = np.unique(np.geomspace(least, most + 1, cells + 1).round().astype(np.int64))
    ends[[0, -1]] = least, most + 1
    inside = np.array([bound for bound in bounds if least < bound <= most], dtype=np.int64)
    distance = np.abs(np.log(ends[:, None] / inside)).min(axis=1, initial=np.inf)
    is_kept = distance > 0.5 * np.log((most + 1) / least) / cells
    is_kept[[0, -1]] = True
    return np.union1d(ends[is_kept], inside)


def region_text(feasible: FeasibleSet, width: int) -> Text:
    """Returns the region as text of at most `width` columns: the power of ten of every count, and lines of the budget.

    Cells outside the budget are dim on terminals with colours.
    """
    region = CostRegion.of(feasible, max(10, width - _MARGIN - 4), _TEXT_ROWS, TEXT_DRAWS)
    columns, text = _with_lines(region.flops_lines, len(region.counts)), Text(no_wrap=True)
    text.append(f"{'params':>{_MARGIN - 2}}\n")
    for row, is_line in reversed(_with_lines(region.params_lines, region.counts.shape[1])):
        if is_line:
            label, cells = region.params_lines[row], Text("".join("┼" if line else "─" for _, line in columns))
        else:
            is_labelled = row % 3 == 0 and row not in region.params_lines
            label = format_quantity(int(region.params_ends[row]), 3) if is_labelled else ""
            cells = Text.assemble(*("│" if line else _cell(region, column, row) for column, line in columns))
        text.append(f"{label:>{_MARGIN - 2}} {'┼' if is_line else '│'}").append(cells).append("\n")
    text.append(" " * (_MARGIN - 1) + "└" + "".join("┴" if line else "─" for _, line in columns) + "\n")
    text.append(_flops_labels(region, columns) + "\n")
    at_depth = "" if region.budget.shallowest_flops_max is None else ",\nbut for its bound at the shallowest depth"
    return text.append(
        f"each character: the power of ten of the number of networks in its cell\n(a is 10), estimated from "
        f"{region.draws:,} draws; lines: the budget{at_depth}", style="dim",
    )  # fmt: skip


def _with_lines(lines: Iterable[int], cells: int) -> list[tuple[int, bool]]:
    """Returns (cell, False) for every cell in order, and (cell, True) for a line right before its cell."""
    entries = [(cell, False) for cell in range(cells)] + [(cell, True) for cell in lines]
    return sorted(entries, key=lambda entry: (entry[0], not entry[1]))


def _cell(region: CostRegion, column: int, row: int) -> tuple[str, str]:
    count = float(region.counts[column, row])
    power = max(0, int(log10(count))) if count else 0
    style = _COLOURS[min(power, len(_COLOURS) - 1)] if region.is_inside[column, row] else "dim"
    return (_DIGITS[power] if count else " ", style)


def _flops_labels(region: CostRegion, columns: list[tuple[int, bool]]) -> str:
    """Returns the axis labels: the bounds, the ends, and others if there is room."""
    ends, last = region.flops_ends, len(region.flops_ends) - 1
    written = [(columns.index((cell, True)), label) for cell, label in region.flops_lines.items()]
    written += [(0, format_quantity(int(ends[0]), 3)), (len(columns) - 1, format_quantity(int(ends[last]), 3))]
    for column in range(0, len(columns), 12):
        written.append((column, format_quantity(int(ends[columns[column][0]]), 3)))
    line = list(f"{'FLOPs':>{_MARGIN - 2}}  ".ljust(_MARGIN + len(columns) + 4))
    for column, label in written:
        start = _MARGIN + column - (len(label) // 2 if column else 0)
        if set(line[start - 2 : start + len(label) + 2]) == {" "} and start + len(label) <= len(line):
            line[start : start + len(label)] = label
    return "".join(line).rstrip()


def write_region_picture(path: Path, feasible: FeasibleSet) -> None:
    """Writes the region as PNG: a heat map of counts, lines of the budget, and published networks as points.

    Raises `UserError` if the file cannot be written.
    """
    check_picture_path(path)
    try:
        write_atomically(path, _png(CostRegion.of(feasible, *_PNG_CELLS, PNG_DRAWS)))
    except OSError as error:
        raise UserError(f"{path}: the picture cannot be written: {error.strerror}; give another --picture") from error


def check_picture_path(path: Path) -> None:
    """Raises `UserError` if a picture certainly cannot be written to a path."""
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: a picture must be a PNG file, got the ending {path.suffix!r}; name it FILE.png")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give a file in it, such as {path / 'region.png'}")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first, or name another file")


@own_style()
def _png(region: CostRegion) -> bytes:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    space, budget = region.space, region.budget
    figure = Figure(figsize=(8, 5.4), layout="constrained", dpi=130)
    axes = figure.subplots()
    counts = np.ma.masked_less_equal(region.counts, 0).T
    ends = region.flops_ends / 1e9, region.params_ends / 1e6
    mesh = axes.pcolormesh(*ends, counts, norm=LogNorm(vmin=1), cmap="viridis")
    figure.colorbar(mesh, label=f"networks per cell, estimated from {region.draws:,} draws")
    for draw_line, unit, bounds in (
        (axes.axvline, 1e9, (budget.flops_min, budget.flops_max)),
        (axes.axhline, 1e6, (budget.params_min, budget.params_max)),
    ):
        for bound in bounds:
            if bound is not None:
                draw_line(bound / unit, color="tab:red", linestyle="--", linewidth=1.4, label="budget")
    mark_presets(axes, region)
    axes.set(
        xscale="log", yscale="log",
        title=f"{literal(space.name)}: {space.num_networks:,} networks\n{budget.describe()}",
        xlabel=f"GFLOPs (multiply-adds, {space.image_size} px, {space.classes} classes)",
        ylabel=f"million parameters ({space.classes} classes)",
    )  # fmt: skip
    handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    if handles:
        axes.legend(handles.values(), handles.keys(), loc="upper left", fontsize=8, framealpha=0.9)
    return png_of(figure)


def mark_presets(axes: Any, region: CostRegion) -> None:
    """Marks published networks of the space's input and classes; those that are in the space are filled white."""
    space = region.space
    for (name, arch), marker in zip(PUBLISHED.items(), itertools.cycle("osD^vP*X<>"), strict=False):
        cost = cost_of(arch)
        if (arch.image_size, arch.channels, arch.classes) == (space.image_size, space.channels, space.classes) and (
            region.flops_ends[0] <= cost.flops < region.flops_ends[-1]
            and region.params_ends[0] <= cost.params < region.params_ends[-1]
        ):
            face = "white" if space.contains(arch) else "none"
            point = cost.flops / 1e9, cost.params / 1e6
            axes.scatter(*point, marker=marker, s=34, facecolors=face, edgecolors="black", zorder=3, label=name)
