"""Counts the networks of a space where a budget bounds three costs: FLOPs, parameters, FLOPs at the shallowest depth.

The count is that of `sret_nas.feasible.cost_table` with histograms of three costs: a network is cut into prefix, middle
and last stage, and the pairs of prefix and middle are binned by what the cells of the last stage leave of the budget.
The bins of three costs are many, so the cells of the last stage are taken in groups whose bins fit into memory, and
every group bins all pairs anew. That takes several times as long as two costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from math import prod

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.feasible.overflow import MAX_COST
from sret_nas.space.choice_costs import ChoiceCosts

_MAX_BINS = 2**21
"""Most bins of one histogram."""

_MAX_PREFIXES = 4_000_000
"""Most prefixes of several stages that are merged at a time: some seconds."""

_CHUNK = 2**20
"""Most pairs per step, to bound memory."""

_EXACT = 2**53
"""Pairs below which counts are exact although they are summed in floating point."""

_Cells = dict[int, tuple[IntArray, FloatArray]]
"""By state: the distinct costs, of shape (cells, 3), and how many choices or prefixes have them, of shape (cells,)."""


def count_inside(costs: ChoiceCosts, budget: Budget, max_pairs: int) -> int | None:
    """Returns the number of networks inside a budget.

    Returns None if more than `max_pairs` cost sums would be formed for each of the residual connections.
    """
    max_pairs *= costs.num_residuals
    columns = zip(costs.state, costs.flops, costs.params, costs.shallowest_flops, strict=True)
    stages = [_cells(*stage) for stage in columns]
    links = [
        {pair: np.array([flops, params, flops]) for pair, (flops, params) in stage.items()} for stage in costs.links
    ]
    while len(stages) < 3:  # stages in front that cost nothing
        states = list(stages[0])
        stages.insert(0, {0: (np.zeros((1, 3), dtype=np.int64), np.ones(1))})
        links.insert(0, {(0, state): np.zeros(3, dtype=np.int64) for state in states})
    prefix = stages[0]
    for position in range(1, len(stages) - 2):
        if _num_pairs(prefix, stages[position], links[position - 1]) > min(max_pairs, _MAX_PREFIXES):
            return None
        prefix = _combined(prefix, stages[position], links[position - 1])
    middle, last = stages[-2:]
    pairs = sum(count.sum() for _, count in prefix.values()) * sum(count.sum() for _, count in middle.values())
    if _num_pairs(prefix, middle, links[-2]) > max_pairs or pairs >= _EXACT:
        return None
    low = np.array([budget.flops_min or 0, budget.params_min or 0, 0])
    highest = (budget.flops_max, budget.params_max, budget.shallowest_flops_max)
    high = np.array([MAX_COST if bound is None else bound for bound in highest])
    total = 0
    for before, between in product(prefix, middle):
        if (before, between) not in links[-2]:
            continue
        pair = _Pairs(prefix[before], middle[between], links[-2][before, between])
        for after, (cell_costs, count) in last.items():
            if (between, after) in links[-1]:
                rest = cell_costs + links[-1][between, after]
                inside = pair.count(low - 1 - rest, high - rest)
                total += sum(int(a) * int(b) for a, b in zip(inside.tolist(), count.tolist(), strict=True))
    return total


def _cells(state: IntArray, *costs: IntArray) -> _Cells:
    """Merges the choices of a stage by state and cost."""
    table = np.stack(costs, axis=1)
    cells: _Cells = {}
    for one in np.unique(state).tolist():
        distinct, count = np.unique(table[state == one], axis=0, return_counts=True)
        cells[one] = distinct, count.astype(np.float64)
    return cells


def _combined(before: _Cells, stage: _Cells, links: dict[tuple[int, int], IntArray]) -> _Cells:
    """Returns the cells of prefixes that are one stage longer."""
    cells = {}
    for state, (costs, count) in stage.items():
        sums, counts = [], []
        for state_before, (costs_before, count_before) in before.items():
            if (state_before, state) in links:
                sums.append((costs_before[:, None] + costs + links[state_before, state]).reshape(-1, 3))
                counts.append(np.outer(count_before, count).ravel())
        if sums:
            distinct, inverse = np.unique(np.concatenate(sums), axis=0, return_inverse=True)
            total = np.bincount(inverse.ravel(), np.concatenate(counts))
            cells[state] = distinct, total.astype(np.float64)
    return cells


def _num_pairs(before: _Cells, stage: _Cells, links: Iterable[tuple[int, int]]) -> int:
    """Counts the cost sums of cells that may follow each other."""
    return sum(len(before[first][1]) * len(stage[second][1]) for first, second in links if first in before)


class _Pairs:
    """All pairs of a cell of the prefix and a cell of the middle."""

    def __init__(self, first: tuple[IntArray, FloatArray], second: tuple[IntArray, FloatArray], link: IntArray) -> None:
        (self._first, self._first_count), (second_costs, self._second_count) = first, second
        self._second = second_costs + link
        self._most = self._first.max(axis=0) + self._second.max(axis=0)
        # Parameters and FLOPs at the shallowest depth have few distinct values, whose sums are binned once.
        self._distinct = [
            tuple(np.unique(costs[:, axis], return_inverse=True) for costs in (self._first, self._second))
            for axis in (1, 2)
        ]  # fmt: skip

    def count(self, too_low: IntArray, high: IntArray) -> FloatArray:
        """Returns the number of pairs above `too_low` and up to `high` in every cost; both have the shape (n, 3)."""
        ends = np.clip(np.stack([too_low, high]), -1, self._most)
        total = np.zeros(len(high))
        hopeless = (ends[1] < 0).any(axis=1)
        order = np.lexsort((ends[1][:, 0], ends[1][:, 1], ends[1][:, 2]))
        waiting = [order[~hopeless[order]]]
        while waiting:
            group = waiting.pop()
            limits = [np.unique(ends[:, group, axis], return_inverse=True) for axis in range(3)]
            if len(group) > 1 and prod(len(values) for values, _ in limits) > _MAX_BINS:
                waiting += np.array_split(group, 2)
            elif len(group):
                below = self._cumulated([values for values, _ in limits])
                bins = [positions.reshape(2, len(group)) for _, positions in limits]
                for corner in product((0, 1), repeat=3):
                    sign = (-1) ** (3 - sum(corner))
                    total[group] += sign * below[tuple(bins[axis][end] for axis, end in enumerate(corner))]
        return total

    def _cumulated(self, limits: list[IntArray]) -> FloatArray:
        """Returns how many pairs are up to each limit in every cost, of shape (limits of each cost)."""
        shape = tuple(len(values) + 1 for values in limits)
        histogram = np.zeros(prod(shape))
        tables = [
            np.searchsorted(limits[axis], first[0][:, None] + second[0])
            for axis, (first, second) in zip((1, 2), self._distinct, strict=True)
        ]
        step = max(1, _CHUNK // len(self._second))
        for start in range(0, len(self._first), step):
            rows = slice(start, start + step)
            code = np.searchsorted(limits[0], self._first[rows, 0, None] + self._second[:, 0])
            for table, (first, second), length in zip(tables, self._distinct, shape[1:], strict=True):
                code = code * length + table[first[1][rows, None], second[1]]
            count = self._first_count[rows, None] * self._second_count
            histogram += np.bincount(code.ravel(), count.ravel(), minlength=len(histogram))
        below = histogram.reshape(shape)[:-1, :-1, :-1]
        for axis in range(3):
            below = np.cumsum(below, axis=axis)
        return below
