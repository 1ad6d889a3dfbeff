"""Numbers for a loss landscape: the width of the basin around a network, and its sharpness."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

BASIN_FACTOR = 2.0
"""The loss over that of the network, at which its basin ends."""


@dataclass(frozen=True)
class Basin:
    """The basin on one line through a network. Lengths are those of the filter-normalised direction."""

    width: float
    """Distance between the two points at which the loss has doubled; at least that, if it does not within the line."""
    is_wider: bool
    """Whether the loss does not double on a side, whose width then counts up to the end of the line."""
    sharpness: float | None
    """Second derivative of the loss at the network (nats per squared length), by the central difference of the
    nearest points; None if a loss there is not finite."""


def basin_of(losses: Sequence[float | None], step: float) -> Basin | None:
    """Returns the basin on a line of losses (nats) at equal steps, with the network in its middle.

    Between points, the loss is taken to be linear. A loss that is not finite (None) is above every threshold, and the
    basin ends at the last point before it. Returns None if the network's own loss is not finite or not positive.
    """
    half = len(losses) // 2
    centre = losses[half]
    if centre is None or centre <= 0:
        return None
    left = _distance_to(BASIN_FACTOR * centre, losses[half::-1])
    right = _distance_to(BASIN_FACTOR * centre, losses[half:])
    before, after = losses[half - 1], losses[half + 1]
    sharpness = None if before is None or after is None else (before - 2 * centre + after) / step**2
    sides = [half if side is None else side for side in (left, right)]
    return Basin(step * sum(sides), left is None or right is None, sharpness)


def _distance_to(threshold: float, losses: Sequence[float | None]) -> float | None:
    """Returns the steps outward, from the first loss, after which the threshold is reached first; None if never."""
    inner = losses[0]
    for index, outer in enumerate(losses[1:], start=1):
        assert inner is not None
        if outer is None:
            return index - 1
        if outer >= threshold:
            return index - 1 + (threshold - inner) / (outer - inner)
        inner = outer
    return None


@dataclass(frozen=True)
class BasinSummary:
    """The basins of several pairs of directions: each pair's mean over its two lines, and their variation."""

    widths: tuple[float, ...]
    """Mean width of each pair."""
    is_wider: bool
    """Whether the loss does not double on a side of some line, so that all widths are at least what is stated."""
    sharpness: tuple[float, ...]
    """Mean sharpness of each pair with finite losses."""

    @property
    def mean_width(self) -> float:
        return statistics.fmean(self.widths)

    @property
    def mean_sharpness(self) -> float | None:
        return statistics.fmean(self.sharpness) if self.sharpness else None

    def to_dict(self) -> dict[str, Any]:
        """Returns all values with means and standard deviations between pairs (null for a single pair)."""
        return {
            **asdict(self),
            "mean_width": self.mean_width, "std_width": deviation(self.widths),
            "mean_sharpness": self.mean_sharpness, "std_sharpness": deviation(self.sharpness),
        }  # fmt: skip


def deviation(values: Sequence[float]) -> float | None:
    """Returns the standard deviation of a sample; None for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def summarise(pairs: Sequence[Sequence[Sequence[float | None]]], step: float) -> BasinSummary | None:
    """Returns the basins of the lines of each pair; None if the network's own loss is not finite or not positive."""
    basins = [[basin for line in lines if (basin := basin_of(line, step)) is not None] for lines in pairs]
    if not basins or not all(basins):
        return None
    curvatures = [[basin.sharpness for basin in pair if basin.sharpness is not None] for pair in basins]
    return BasinSummary(
        widths=tuple(statistics.fmean(basin.width for basin in pair) for pair in basins),
        is_wider=any(basin.is_wider for pair in basins for basin in pair),
        sharpness=tuple(statistics.fmean(values) for values in curvatures if values),
    )
