"""Counts the networks of a space in a window of costs, and draws from them.

Equal costs are merged into cells (`sret_nas.feasible.cost_cells`). A network is cut in three: the last stage, the stage
before it (the middle), and all earlier stages (the prefix). For each pair of states of prefix and middle (a *state
path*), the cost sums of their cells are counted in a histogram. The bins end at the costs that the cells of the last
stage leave of the window, so the histogram gives the exact number of pairs that complete each of those cells.

Draws go backwards through the same counts, without rejection: first the state path and the last stage's cell, then the
prefix's cell, then the middle's cell, and finally one choice or prefix within each cell.

This is exact as long as there are at most `MAX_PAIRS` sums for each of the residual connections, as in all shipped
spaces. Beyond that, in spaces of four or more rich stages, costs are rounded down to a grid, and a window widened by
the rounding holds a superset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from math import isqrt, prod

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.errors import UserError
from sret_nas.feasible.cost_cells import CostCells, Layer, PrefixCosts, Slots, StageCosts, Window, runs_of
from sret_nas.feasible.overflow import MAX_COST
from sret_nas.feasible.summed_area_table import SummedAreaTable
from sret_nas.space.choice_costs import ChoiceCosts, Links, choice_costs_of
from sret_nas.space.search_space import SearchSpace

MAX_PAIRS = 40_000_000
"""Most cost sums of prefix and middle for each of the residual connections; about a second of one core."""

MAX_LIMIT_OF_PAIRS = 2**40
"""Most that `MAX_PAIRS` may be replaced by: more sums would take hours of one core, and a hundred GB."""

MAX_COMPLETIONS = 2**22
"""Most counts in the result of `CostTable.completions` for one window: 32 MiB."""

_CHUNK = 2**20
"""Most cost sums per step, to bound memory."""

_MAX_THRESHOLDS = 2**23
"""Most bins of one histogram; if needed, the cells of the last stage are processed in parts."""

_MAX_TABLE_SIZE = 2**23
"""Most entries of the `SummedAreaTable` of one state of the middle; beyond that, costs are rounded."""

_EXACT = 2**53
"""Pairs of prefix and middle below which counts are exact although they are summed in floating point."""

_Stage = tuple[IntArray, IntArray, IntArray]
"""State, FLOPs and parameters of every choice of a stage, each of shape (choices,)."""


class CostTable:
    """The cells of prefix, middle and last stage of a space.

    Attributes:
        rounding_error: Most by which rounding lowers the FLOPs and the parameters of a network.
        is_exact: Whether nothing is rounded, neither costs nor counts.
        paths: State paths, i.e. states of prefix and middle.
        last_cells: State and cell of the last stage, of shape (last cells, 2).
        last_count: Number of choices in each of those cells.
    """

    def __init__(self, costs: ChoiceCosts, slots: Slots, max_pairs: int) -> None:
        """Merges the choices into cells.

        Args:
            costs: The choices of the space.
            slots: The costs that matter; a cost that does not is treated as zero.
            max_pairs: Most cost sums of prefix and middle, for each of the residual connections.

        Raises `UserError` for a space with more than `MAX_COMPLETIONS`, and `ValueError` as `check_max_pairs`.
        """
        check_max_pairs(max_pairs)
        max_pairs *= costs.num_residuals
        stages, links, self._stage_positions = at_least_three(*_costs_of_slots(costs, slots))
        layers = [StageCosts(*stage) for stage in stages]
        limit = min(isqrt(max_pairs) // max(len(layer.cells) for layer in layers), isqrt(_MAX_TABLE_SIZE) - 1)
        limit = max(limit, 1)  # few pairs leave a cell to each state, the coarsest grid there is
        if (
            len(layers) > 3
            or _num_pairs(layers[0], layers[1], links[0]) > max_pairs
            or _max_table_size(layers[1]) > _MAX_TABLE_SIZE
        ):
            layers = [StageCosts(*stage, limit) for stage in stages]
        self.prefix: Layer = layers[0]
        self.middle, self.last = layers[-2:]
        for position, stage in enumerate(layers[1:-2], start=1):
            # The fewer cells the middle has, the more the last prefix may have.
            if position == len(layers) - 3:
                limit = max(limit, max_pairs // (_num_cells(self.middle) * len(stage.cells)))
            self.prefix = PrefixCosts(self.prefix, stage, links[position - 1], limit)
        self._before_middle, self._before_last = links[-2:]

        self.rounding_error = tuple(
            self.prefix.rounding_error[cost] + self.middle.rounding_error[cost] + self.last.rounding_error[cost]
            for cost in range(2)
        )
        pairs = _num_choices(self.prefix) * _num_choices(self.middle)
        self.is_exact = self.rounding_error == (0, 0) and pairs < _EXACT
        self.paths = [path for path in product(self.prefix.cells, self.middle.cells) if path in self._before_middle]
        self.last_cells = np.array(
            [(state, cell) for state, cells in self.last.cells.items() for cell in range(len(cells))]
        )
        self.last_count = np.concatenate([cells.count for cells in self.last.cells.values()])
        if len(self.paths) * len(self.last_cells) > MAX_COMPLETIONS:
            raise UserError(
                f"the last three stages have {len(self.paths):,} pairs of widths and {len(self.last_cells):,} costs of "
                f"the last one, {len(self.paths) * len(self.last_cells):,} combinations, and at most "
                f"{MAX_COMPLETIONS:,} are counted: list fewer widths"
            )

    def widened(self, window: Window) -> Window:
        """Widens a window such that it holds the rounded costs of all networks whose true costs it holds."""
        return replace(window, low=(window.low[0] - self.rounding_error[0], window.low[1] - self.rounding_error[1]))

    def completions(self, windows: Sequence[Window]) -> FloatArray:
        """Counts the pairs of prefix and middle that complete each cell of the last stage to a cost inside a window.

        The result has the shape (windows, paths, last cells). The cost sums are binned once for all windows.
        """
        counts = np.zeros((len(windows), len(self.paths), len(self.last_cells)))
        for middle_state in self.middle.cells:
            limits = self._limits(windows, middle_state)
            num_thresholds = prod(len(np.unique(limit)) for limit in limits)
            num_chunks = min(1 + num_thresholds // _MAX_THRESHOLDS, len(self.last_cells))
            for chunk in np.array_split(np.arange(len(self.last_cells)), num_chunks):
                flops_limits, flops_at = np.unique(limits[0][..., chunk], return_inverse=True)
                params_limits, params_at = np.unique(limits[1][..., chunk], return_inverse=True)
                shape = len(windows), 2, len(chunk)
                for path, states in enumerate(self.paths):
                    if states[1] == middle_state:
                        below = self._cumulated(states, flops_limits, params_limits)
                        counts[:, path, chunk] = _inside(below, flops_at.reshape(shape), params_at.reshape(shape))
        return counts

    def _limits(self, windows: Sequence[Window], middle_state: int) -> list[IntArray]:
        """Returns the bounds on the costs of prefix and middle for each last cell: one array for FLOPs, one for params.

        Each has the shape (windows, 2, last cells): the highest cost that is too low, and the highest that fits.
        """
        limits = []
        for cost, rest in enumerate(self._rests[middle_state]):
            bounds = np.array([(window.low[cost] - 1, window.high[cost]) for window in windows])
            # Clipping merges all limits out of reach of any sum, which keeps the histogram small.
            limits.append(np.clip(bounds[:, :, None] - rest, -1, self._max_cost(cost)))
        return limits

    @cached_property
    def _rests(self) -> dict[int, IntArray]:
        """Costs of the last cells and the pooling before them, by the middle's state; of shape (2, last cells)."""
        return {
            middle_state: np.hstack([
                self._rest(middle_state, state, np.array([cells.flops, cells.params]))
                for state, cells in self.last.cells.items()
            ])
            for middle_state in self.middle.cells
        }  # fmt: skip

    def _rest(self, middle_state: int, state: int, costs: IntArray) -> IntArray:
        """Returns some costs of a last state with its pooling; beyond any window if the middle's has no link to it."""
        link = self._before_last.get((middle_state, state))
        return np.full_like(costs, MAX_COST + 1) if link is None else costs + np.array(link)[:, None]

    def _max_cost(self, cost: int) -> int:
        """Bounds a cost of all pairs of prefix and middle from above."""
        layers = (self.prefix, self.middle)
        max_costs = [max(int((c.flops, c.params)[cost].max()) for c in layer.cells.values()) for layer in layers]
        return sum(max_costs) + max(link[cost] for link in self._before_middle.values())

    def _cumulated(self, path: tuple[int, int], flops_limits: IntArray, params_limits: IntArray) -> FloatArray:
        """Counts the pairs on a state path below each pair of limits.

        Returns:
            Pairs with at most `flops_limits[i]` FLOPs and `params_limits[j]` parameters, at [i, j].
        """
        first, second, link = self._pair(path)
        # Only few parameter counts are distinct, so their sums are binned once, not per pair.
        first_params, first_of = np.unique(first.params, return_inverse=True)
        second_params, second_of = np.unique(second.params, return_inverse=True)
        column = np.searchsorted(params_limits, first_params[:, None] + (second_params + link[1]))
        shape = len(flops_limits) + 1, len(params_limits) + 1
        histogram = np.zeros(shape)
        step = max(1, _CHUNK // len(second))
        for start in range(0, len(first), step):
            rows = slice(start, start + step)
            row = np.searchsorted(flops_limits, first.flops[rows, None] + (second.flops + link[0]))
            bin_index = row * shape[1] + column[first_of[rows, None], second_of]
            count = first.count[rows, None] * second.count
            histogram += np.bincount(bin_index.ravel(), count.ravel(), minlength=histogram.size).reshape(shape)
        return np.cumsum(np.cumsum(histogram[:-1, :-1], axis=0), axis=1)

    def _pair(self, path: tuple[int, int]) -> tuple[CostCells, CostCells, tuple[int, int]]:
        """Returns the cells of prefix and middle on a state path, and the costs of the pooling between them."""
        return self.prefix.cells[path[0]], self.middle.cells[path[1]], self._before_middle[path]

    def draw(self, completion: IntArray, window: Window, rng: np.random.Generator) -> IntArray:
        """Draws networks inside a window uniformly, given their state paths and cells of the last stage.

        Args:
            completion: `path * last cells + last cell` for each draw, of shape (n,).
            window: Bounds on the rounded costs.
            rng: Source of random numbers.

        Returns:
            Choices of shape (n, stages). A row is -1 if no network exists although its count was above zero, which
            rounding of sums beyond 2**53 can cause.
        """
        choices = np.full((len(completion), self.prefix.num_stages + 2), -1)
        order = completion.argsort(kind="stable")
        path, last = np.divmod(completion[order], len(self.last_cells))
        for run in runs_of(path):
            choices[order[run]] = self._draw_on(self.paths[path[run.start]], last[run], window, rng)
        return choices[:, self._stage_positions]

    def _draw_on(self, path: tuple[int, int], last: IntArray, window: Window, rng: np.random.Generator) -> IntArray:
        """Draws networks on one state path for cells of the last stage in ascending order; -1 for none."""
        choices = np.full((len(last), self.prefix.num_stages + 2), -1)
        first = self._draw_first(path, last, window, rng)
        is_there = first >= 0
        first, last = first[is_there], last[is_there]
        second = self._draw_second(path, first, last, window, rng)
        choices[is_there, :-2] = self.prefix.draw(path[0], first, rng)
        choices[is_there, -2:-1] = self.middle.draw(path[1], second, rng)
        choices[is_there, -1:] = self._draw_last(last, rng)
        return choices

    def _draw_first(self, path: tuple[int, int], last: IntArray, window: Window, rng: np.random.Generator) -> IntArray:
        """Draws a cell of the prefix for each cell of the last stage, weighted by its networks; -1 if none fits."""
        prefix, area_table = self.prefix.cells[path[0]], self._area_tables[path[1]]
        costs = np.array([prefix.flops, prefix.params])[:, None]
        cells, share = np.full(len(last), -1), rng.random(len(last))
        runs = runs_of(last)
        low, high = self._room(path, last[[run.start for run in runs]], window)
        step = max(1, _CHUNK // len(prefix))
        for part in range(0, len(runs), step):
            boxes = area_table.box(low[:, part : part + step] - costs, high[:, part : part + step] - costs)
            totals = np.cumsum(prefix.count * area_table.count(boxes), axis=1)
            for run, total in zip(runs[part : part + step], totals, strict=True):
                if total[-1] > 0:
                    cells[run] = total.searchsorted(share[run] * total[-1], side="right")
        return cells

    def _draw_second(
        self, path: tuple[int, int], first: IntArray, last: IntArray, window: Window, rng: np.random.Generator
    ) -> IntArray:
        """Draws a cell of the middle for each pair of prefix and last cell, weighted by its networks."""
        prefix, area_table = self.prefix.cells[path[0]], self._area_tables[path[1]]
        costs = np.array([prefix.flops[first], prefix.params[first]])[..., None]
        low, high = self._room(path, last, window)
        return area_table.draw(area_table.box(low - costs, high - costs), rng)[:, 0]

    def _draw_last(self, last: IntArray, rng: np.random.Generator) -> IntArray:
        """Draws a choice from each cell of the last stage; the cells ascend. Of shape (n, 1)."""
        choices = np.empty((len(last), 1), dtype=np.int64)
        state, cell = self.last_cells[last].T
        for run in runs_of(state):
            choices[run] = self.last.draw(int(state[run.start]), cell[run], rng)
        return choices

    def _room(self, path: tuple[int, int], last: IntArray, window: Window) -> tuple[IntArray, IntArray]:
        """Returns the least and the most that prefix and middle may cost together, for each of n last cells.

        Each has the shape (2, n, 1): FLOPs and parameters, without the poolings.
        """
        rest = (self._rests[path[1]][:, last] + np.array(self._before_middle[path])[:, None])[..., None]
        return np.array(window.low)[:, None, None] - rest, np.array(window.high)[:, None, None] - rest

    @cached_property
    def _area_tables(self) -> dict[int, SummedAreaTable]:
        """The choices of the middle by FLOPs and parameters, for each state."""
        return {state: SummedAreaTable(cells) for state, cells in self.middle.cells.items()}

    def members(self, path: int, last: int, window: Window) -> Iterator[tuple[int, ...]]:
        """Yields the networks on a state path with a given last cell whose rounded costs lie in the window."""
        states, (last_state, last_cell) = self.paths[path], self.last_cells[last].tolist()
        low, high = self._room(states, np.array([last]), window)
        room = Window((int(low[0, 0, 0]), int(low[1, 0, 0])), (int(high[0, 0, 0]), int(high[1, 0, 0])))
        for first, second in self._fitting(states, room):
            for parts in product(
                self.prefix.members(states[0], first),
                self.middle.members(states[1], second),
                self.last.members(last_state, last_cell),
            ):
                choices = parts[0] + parts[1] + parts[2]
                yield tuple(choices[stage] for stage in self._stage_positions)

    def _fitting(self, path: tuple[int, int], room: Window) -> list[tuple[int, int]]:
        """Returns all pairs of a prefix cell and a middle cell whose costs lie in the remaining window."""
        first, second, _ = self._pair(path)
        # The middle's cells are sorted by FLOPs, so those that fit a prefix cell in FLOPs are contiguous.
        start = np.searchsorted(second.flops, room.low[0] - first.flops, side="left")
        length = np.maximum(np.searchsorted(second.flops, room.high[0] - first.flops, side="right") - start, 0)
        rows = np.repeat(np.arange(len(length)), length)
        columns = np.arange(len(rows)) - np.repeat(np.cumsum(length) - length - start, length)
        fits = room.contains(first.flops[rows] + second.flops[columns], first.params[rows] + second.params[columns])
        return list(zip(rows[fits].tolist(), columns[fits].tolist(), strict=True))


def _costs_of_slots(costs: ChoiceCosts, slots: Slots) -> tuple[list[_Stage], list[Links]]:
    """Returns stages and poolings with two costs; one that does not matter is zero, so that cells are fewer."""

    def chosen(stage: Sequence[IntArray]) -> tuple[IntArray, IntArray]:
        first, second = (0 * stage[0] if slot is None else stage[slot] for slot in slots)
        return first, second

    stages = [
        (state, *chosen(stage))
        for state, *stage in zip(costs.state, costs.flops, costs.params, costs.shallowest_flops, strict=True)
    ]
    links = []
    for stage in costs.links:
        every = {pair: (flops, params, flops) for pair, (flops, params) in stage.items()}
        first, second = ({pair: 0 if s is None else cost[s] for pair, cost in every.items()} for s in slots)
        links.append({pair: (first[pair], second[pair]) for pair in every})
    return stages, links


def at_least_three(stages: list[_Stage], links: list[Links]) -> tuple[list[_Stage], list[Links], list[int]]:
    """Pads a space of one or two stages to three with stages that cost nothing; also returns the real positions."""
    positions = list(range(len(stages)))
    if len(stages) == 1:
        states = np.unique(stages[0][0]).tolist()
        stages, links, positions = (
            [_free(np.zeros(1, dtype=np.int64)), *stages],
            [{(0, state): (0, 0) for state in states}],
            [1],
        )
    if len(stages) == 2:
        states = np.unique(stages[0][0])
        links = [{(state, state): (0, 0) for state in states.tolist()}, *links]
        stages, positions = [stages[0], _free(states), stages[1]], [2 * stage for stage in positions]
    return stages, links, positions


def _free(states: IntArray) -> _Stage:
    """Returns a stage with one choice per state, which costs nothing."""
    return states, np.zeros_like(states), np.zeros_like(states)


def _num_pairs(first: StageCosts, second: StageCosts, links: Links) -> int:
    """Counts the cost sums of two stages over all pairs of states with a link."""
    return sum(len(first.cells[before]) * len(second.cells[after]) for before, after in links)


def _num_cells(layer: StageCosts) -> int:
    """Counts the cells of all states."""
    return sum(len(cells) for cells in layer.cells.values())


def _max_table_size(stage: StageCosts) -> int:
    """Returns the size of the largest `SummedAreaTable` of a stage's states."""
    return max(SummedAreaTable.size(cells) for cells in stage.cells.values())


def _num_choices(layer: Layer) -> float:
    """Counts the choices or prefixes of all states."""
    return float(sum(cells.count.sum() for cells in layer.cells.values()))


def _inside(below: FloatArray, flops_at: IntArray, params_at: IntArray) -> FloatArray:
    """Counts the pairs between the limits in both costs by inclusion and exclusion; of shape (windows, n).

    The limits are positions in `below`, of shape (windows, 2, n). Rounding of counts beyond 2**53 may give a result
    below zero, which is clipped.
    """
    flops_low, flops_high, params_low, params_high = (
        limits[:, end] for limits in (flops_at, params_at) for end in (0, 1)
    )
    inside: FloatArray = (
        below[flops_high, params_high] - below[flops_low, params_high]
        - below[flops_high, params_low] + below[flops_low, params_low]
    )  # fmt: skip
    return np.maximum(inside, 0.0)


def check_max_pairs(max_pairs: int) -> None:
    """Raises `ValueError` for a limit of cost sums that no table can be made with."""
    if not 1 <= max_pairs <= MAX_LIMIT_OF_PAIRS:
        raise ValueError(f"max_pairs must be from 1 to {MAX_LIMIT_OF_PAIRS:,}, got {max_pairs:,}")


def cost_table_of(space: SearchSpace, slots: Slots, max_pairs: int) -> CostTable:
    """Returns the table of a space, computed once for all budgets that bound the same costs."""
    return space.tables.get((CostTable, slots, max_pairs), lambda: CostTable(choice_costs_of(space), slots, max_pairs))
