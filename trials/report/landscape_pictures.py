"""The pictures of loss landscapes, as PNG: surfaces, contours, and profiles, with one scale for all networks."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .basin import BASIN_FACTOR
from .drawing import literal, own_style, png_of
from .landscape import Landscapes, LossLandscape, LossName, caption, describe_sharpness, describe_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL = 3.7
"""Width of a panel in inches."""
NUM_LEVELS = 13
MAX_OVER_MIN = 1000.0
"""Largest loss of a scale over its smallest: beyond, everything has the colour of the largest."""
MAX_COLUMNS = 4
"""Networks side by side."""
DPI = 130

Grid = npt.NDArray[np.float64]


@own_style()
def profile_picture(landscapes: Landscapes) -> bytes:
    """Returns the loss along the directions: each network's mean over all of them, and their range as a band."""
    figure = _figure(5.2 * len(landscapes.losses), 4.6)
    x = landscapes.coordinates
    panels = np.atleast_1d(figure.subplots(1, len(landscapes.losses)))
    for axes, loss in zip(panels, landscapes.losses, strict=True):
        low, high = _scale([line for one in landscapes.of(loss) for line in _lines(one)])
        for index, landscape in enumerate(landscapes.of(loss)):
            lines = np.clip(_finite(_lines(landscape), high), low, high)
            colour = f"C{index}"
            axes.fill_between(x, lines.min(axis=0), lines.max(axis=0), color=colour, alpha=0.2, linewidth=0)
            axes.plot(x, lines.mean(axis=0), color=colour, label=literal(landscape.name))
            if landscape.centre is not None:
                axes.axhline(BASIN_FACTOR * landscape.centre, color=colour, linewidth=0.8, linestyle=":")
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        _tick(axes.yaxis, low, high)
        axes.set_xlabel("distance, in lengths of the direction")
        axes.set_title(f"{loss} loss")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    panels[0].set_ylabel("loss, nats")
    text = f"Mean over {2 * landscapes.options.pairs} directions, with their range."
    _with_caption(figure, f"{text} Dotted: {BASIN_FACTOR:g} times the network's loss.", landscapes)
    return png_of(figure)


@own_style()
def contour_picture(landscapes: Landscapes) -> bytes:
    """Returns the surfaces of the first pair of directions as contours; dashed where the loss has doubled."""
    from matplotlib.colors import BoundaryNorm

    x = landscapes.coordinates
    panels = _Panels(landscapes, 4.0)
    for loss in landscapes.losses:
        low, high = _scale_of_surfaces(landscapes, loss)
        levels = np.geomspace(low, high, NUM_LEVELS)
        norm = BoundaryNorm(levels.tolist(), 256)
        row, picture = [], None
        for landscape in landscapes.of(loss):
            axes = panels.add(aspect="equal")
            surface = np.clip(_surface(landscape, high), low, high)
            picture = axes.contourf(x, x, surface, levels=levels, norm=norm, cmap="viridis")
            axes.contour(x, x, surface, levels=levels, colors="k", linewidths=0.3, alpha=0.5)
            if landscape.centre is not None and low < BASIN_FACTOR * landscape.centre < high:
                doubled = [BASIN_FACTOR * landscape.centre]
                axes.contour(x, x, surface, levels=doubled, colors="w", linewidths=1.6, linestyles="dashed")
            axes.plot(0, 0, "+", color="w", markersize=9)
            axes.set_title(_title(landscape), fontsize=9)
            axes.set_xlabel("first direction", fontsize=8)
            axes.set_ylabel("second direction", fontsize=8)
            axes.tick_params(labelsize=7)
            row.append(axes)
        panels.end_row()
        assert picture is not None
        bar = panels.figure.colorbar(picture, ax=row, label=f"{loss} loss, nats", ticks=levels, format="%.3g")
        bar.ax.tick_params(labelsize=7)
    text = f"Dashed: where the loss is {BASIN_FACTOR:g} times the network's (+)."
    _with_caption(panels.figure, text, landscapes)
    return png_of(panels.figure)


@own_style()
def surface_picture(landscapes: Landscapes) -> bytes:
    """Returns the surfaces of the first pair of directions in perspective."""
    from matplotlib.colors import LogNorm

    span = landscapes.options.span
    x, y = np.meshgrid(landscapes.coordinates, landscapes.coordinates)
    panels = _Panels(landscapes, 3.9)
    for loss in landscapes.losses:
        low, high = _scale_of_surfaces(landscapes, loss)
        ticks = _ticks(low, high)
        for landscape in landscapes.of(loss):
            axes = panels.add(projection="3d")
            surface = np.clip(_surface(landscape, high), low, high)
            colours = _colours(LogNorm(low, high)(surface))
            # Axes in perspective have no logarithmic scale of their own.
            heights = np.log10(surface)
            axes.plot_surface(x, y, heights, facecolors=colours, rcount=200, ccount=200, linewidth=0, antialiased=False)
            axes.set_zlim(math.log10(low), math.log10(high))
            axes.set_zticks([math.log10(tick) for tick in ticks], [f"{tick:g}" for tick in ticks])
            axes.set_xticks([-span, 0, span], [f"{-span:g}", "0", f"{span:g}"])
            axes.set_yticks([-span, 0, span], [f"{-span:g}", "0", f"{span:g}"])
            axes.set_zlabel(f"{loss} loss, nats", fontsize=8)
            axes.tick_params(labelsize=7)
            axes.set_title(_title(landscape), fontsize=9)
            axes.view_init(elev=28, azim=-55)
            axes.set_box_aspect(None, zoom=0.9)  # else the title of the last column's axis is cut off
        panels.end_row()
    _with_caption(panels.figure, "The loss has a logarithmic scale.", landscapes)
    return png_of(panels.figure)


class _Panels:
    """A figure with a panel for each landscape, where every loss begins a row."""

    def __init__(self, landscapes: Landscapes, height: float) -> None:
        counts = [len(landscapes.of(loss)) for loss in landscapes.losses]
        self._columns = min(max(counts), MAX_COLUMNS)
        self._rows = sum(math.ceil(count / self._columns) for count in counts)
        self._used = 0
        self.figure = _figure(PANEL * self._columns + 1.2, height * self._rows + 1.0)

    def add(self, **keywords: Any) -> Any:
        """Returns the axes of the next panel."""
        self._used += 1
        return self.figure.add_subplot(self._rows, self._columns, self._used, **keywords)

    def end_row(self) -> None:
        """Leaves the rest of the row empty."""
        self._used = math.ceil(self._used / self._columns) * self._columns


def has_surfaces(landscapes: Landscapes) -> bool:
    """Returns whether whole grids were computed."""
    return landscapes.options.surfaces > 0


def _lines(landscape: LossLandscape) -> list[Sequence[float | None]]:
    return [line for pair in landscape.pairs for line in pair.lines]


def _surface(landscape: LossLandscape, high: float) -> Grid:
    surface = landscape.pairs[0].surface
    assert surface is not None
    return _finite(surface, high)


def _finite(rows: Sequence[Sequence[float | None]], high: float) -> Grid:
    """Returns losses as an array, with the largest of the scale where one is not finite."""
    return np.array([[high if value is None else value for value in row] for row in rows])


def _scale_of_surfaces(landscapes: Landscapes, loss: LossName) -> tuple[float, float]:
    return _scale([row for one in landscapes.of(loss) for row in one.pairs[0].surface or ()])


def _scale(rows: Sequence[Sequence[float | None]]) -> tuple[float, float]:
    """Returns the ends of the common scale: the smallest and largest loss of all networks, within `MAX_OVER_MIN`."""
    values = [value for row in rows for value in row if value is not None and value > 0]
    low = 0.95 * min(values, default=0.1)
    return low, min(max(1.05 * max(values, default=1.0), 1.5 * low), MAX_OVER_MIN * low)


def _ticks(low: float, high: float) -> list[float]:
    """Returns round numbers between two numbers: at least three, where there are any so round."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(ticks) >= 3:
            break
    return ticks


def _tick(axis: Any, low: float, high: float) -> None:
    """Labels a logarithmic axis with round numbers alone."""
    ticks = _ticks(low, high)
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ticks([], minor=True)


def _colours(shares: Any) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](shares)


def _title(landscape: LossLandscape) -> str:
    centre = "not finite" if landscape.centre is None else f"{landscape.centre:.3g} nats"
    if landscape.centre is not None and landscape.centre_weight_decay is not None:
        centre += f" ({landscape.centre_weight_decay:.3g} of weight decay)"
    title = f"{literal(landscape.name)}\n{landscape.loss} loss {centre}"
    basin = landscape.basin
    return title if basin is None else f"{title}\nwidth {describe_width(basin)}, sharpness {describe_sharpness(basin)}"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(max(width, 6.0), height), layout="constrained", dpi=DPI)


def _with_caption(figure: Figure, first: str, landscapes: Landscapes) -> None:
    width = int(16 * figure.get_figwidth())
    figure.supxlabel("\n".join(textwrap.wrap(f"{first} {caption(landscapes)}", width)), fontsize=7, ha="center")
