"""How many choices of a stage cost between bounds on FLOPs and parameters, and one of them drawn, without a search."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.feasible.cost_cells import Cells, first_above


class Box(NamedTuple):
    """Rectangles as positions in a `SummedAreaTable`, from the first inside to the first behind; arrays of one
    shape."""

    flops_low: IntArray
    flops_high: IntArray
    params_low: IntArray
    params_high: IntArray


class SummedAreaTable:
    """Cumulated numbers of the choices of some cells, `size` of them: four of them make a rectangle's number."""

    def __init__(self, cells: Cells) -> None:
        self._flops = cells.flops
        self._params, rank = np.unique(cells.params, return_inverse=True)
        below = np.zeros((len(self._params) + 1, len(cells) + 1))
        below[rank + 1, np.arange(1, len(cells) + 1)] = cells.number
        self._columns = below.shape[1]
        self._below: FloatArray = below.cumsum(axis=0).cumsum(axis=1).ravel()

    @staticmethod
    def size(cells: Cells) -> int:
        """How many numbers a table of these cells would hold."""
        return (len(np.unique(cells.params)) + 1) * (len(cells) + 1)

    def corners(self, low: IntArray, high: IntArray) -> Box:
        """The rectangles of closed bounds, each of shape (2, ...): FLOPs and parameters; corners of shape (...)."""
        return Box(
            np.searchsorted(self._flops, low[0]), np.searchsorted(self._flops, high[0], side="right"),
            np.searchsorted(self._params, low[1]), np.searchsorted(self._params, high[1], side="right"),
        )  # fmt: skip

    def number(self, at: Box) -> FloatArray:
        """How many choices lie in each rectangle; exact, as a stage has less than 2**53."""
        return self._between(at, at.flops_high) - self._between(at, at.flops_low)

    def _between(self, at: Box, flops: IntArray) -> FloatArray:
        """How many choices of the first `flops` cells lie between a rectangle's bounds on parameters."""
        number: FloatArray = (
            self._below[at.params_high * self._columns + flops] - self._below[at.params_low * self._columns + flops]
        )
        return number

    def draw(self, at: Box, rng: np.random.Generator) -> IntArray:
        """A cell from each of n rectangles that are not empty, by its number; corners and answer of shape (n, 1)."""
        before = self._between(at, at.flops_low)
        target = before + rng.random(before.shape) * (self._between(at, at.flops_high) - before)
        return first_above(lambda cell: self._between(at, cell + 1), at.flops_low, at.flops_high - 1, target)
