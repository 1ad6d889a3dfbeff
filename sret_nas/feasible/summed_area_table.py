"""Summed-area table of a stage's choices: counts those in a box of costs in constant time, and draws from it.

See Crow, "Summed-area tables for texture mapping" (SIGGRAPH 1984).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.feasible.cost_cells import CostCells, first_above


class Box(NamedTuple):
    """Boxes of costs as half-open ranges of positions in a `SummedAreaTable`; four arrays of one shape."""

    flops_low: IntArray
    flops_high: IntArray
    params_low: IntArray
    params_high: IntArray


class SummedAreaTable:
    """Counts of the choices below each FLOPs and each parameters; four entries give the count of a box."""

    def __init__(self, cells: CostCells) -> None:
        """Sums the counts of the cells."""
        self._flops = cells.flops
        self._params, rank = np.unique(cells.params, return_inverse=True)
        below = np.zeros((len(self._params) + 1, len(cells) + 1))
        below[rank + 1, np.arange(1, len(cells) + 1)] = cells.count
        self._columns = below.shape[1]
        self._below: FloatArray = below.cumsum(axis=0).cumsum(axis=1).ravel()

    @staticmethod
    def size(cells: CostCells) -> int:
        """Returns the number of entries of a table of these cells."""
        return (len(np.unique(cells.params)) + 1) * (len(cells) + 1)

    def box(self, low: IntArray, high: IntArray) -> Box:
        """Returns the boxes, of shape (...), of closed bounds of shape (2, ...): FLOPs and parameters."""
        return Box(
            np.searchsorted(self._flops, low[0]), np.searchsorted(self._flops, high[0], side="right"),
            np.searchsorted(self._params, low[1]), np.searchsorted(self._params, high[1], side="right"),
        )  # fmt: skip

    def count(self, box: Box) -> FloatArray:
        """Counts the choices in each box; exact, because a stage has less than 2**53."""
        return self._between(box, box.flops_high) - self._between(box, box.flops_low)

    def _between(self, box: Box, flops: IntArray) -> FloatArray:
        """Counts the choices among the first `flops` cells that lie within the box in parameters."""
        count: FloatArray = (
            self._below[box.params_high * self._columns + flops] - self._below[box.params_low * self._columns + flops]
        )
        return count

    def draw(self, box: Box, rng: np.random.Generator) -> IntArray:
        """Draws a cell from each of n non-empty boxes, weighted by its count; boxes and result of shape (n, 1)."""
        before = self._between(box, box.flops_low)
        target = before + rng.random(before.shape) * (self._between(box, box.flops_high) - before)
        return first_above(lambda cell: self._between(box, cell + 1), box.flops_low, box.flops_high - 1, target)
