"""Points of a chain by cost: the cheapest one, all inside a window, and uniform draws from a window of one cost.

For draws, the cost is rounded down to a grid, and a dynamic program counts the points of each sum on the grid, stage by
stage. Draws go backwards through the counts. They are uniform over the window widened by the rounding, which holds a
superset of the points; a draw whose true cost lies outside the window is returned as None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain, Point

NUM_CELLS = 4096
"""Cells of the grid, from 0 to the highest cost."""


def least_from(chain: Chain, cost: int, sign: int = 1) -> list[IntArray]:
    """Returns, for each stage s and each of its states, the least cost of stages s, s + 1, ... with their links.

    The result is one array of shape (states,) per stage. With `sign` -1 it holds minus the most. Every pair of states
    must have a link.
    """
    least: list[IntArray] = []
    for stage_index in reversed(range(len(chain.stages))):
        stage = chain.stages[stage_index]
        here = np.full(len(stage.states), np.iinfo(np.int64).max)
        np.minimum.at(here, stage.state_position, sign * stage.costs[:, cost])
        if least:
            here = here + (sign * chain.link_costs[stage_index][:, :, cost] + least[-1]).min(axis=1)
        least.append(here)
    return least[::-1]


def least_point(chain: Chain, cost: int) -> Point:
    """Returns the first of the points with the least cost."""
    point: list[int] = []
    links: IntArray = np.zeros(len(chain.stages[0].states), dtype=np.int64)
    for stage_index, (stage, least) in enumerate(zip(chain.stages, least_from(chain, cost), strict=True)):
        state = int(np.argmin(links + least))
        choices = np.flatnonzero(stage.state_position == state)
        point.append(int(choices[np.argmin(stage.costs[choices, cost])]))
        if stage_index < len(chain.links):
            links = chain.link_costs[stage_index][state, :, cost]
    return tuple(point)


def members(chain: Chain, lows: Sequence[float], highs: Sequence[float]) -> Iterator[Point]:
    """Yields all points whose costs lie from `lows` to `highs` (one bound per cost), each once, in order.

    Prefixes that no continuation can bring inside are pruned, so a few members are found fast among very many points.
    """
    costs = range(len(chain.cost_names))
    rest = [
        [np.column_stack(stage) for stage in zip(*(least_from(chain, cost, sign) for cost in costs), strict=True)]
        for sign in (1, -1)
    ]
    links = chain.link_costs

    def grow(point: Point, spent: IntArray) -> Iterator[Point]:
        """Yields the members that continue a prefix whose costs are `spent`."""
        stage_index = len(point)
        stage = chain.stages[stage_index]
        total = spent + stage.costs
        if stage_index > 0:
            before = chain.stages[stage_index - 1].state_position[point[-1]]
            total = total + links[stage_index - 1][before, stage.state_position]
        least = most = total
        if stage_index < len(links):
            step = links[stage_index][stage.state_position]  # (choices, next states, costs)
            least = total + (step + rest[0][stage_index + 1]).min(axis=1)
            most = total + (step - rest[1][stage_index + 1]).max(axis=1)
        fits = np.flatnonzero((least <= highs).all(axis=1) & (most >= lows).all(axis=1)).tolist()
        for choice in fits:
            if stage_index < len(links):
                yield from grow((*point, choice), total[choice])
            else:
                yield (*point, choice)

    yield from grow((), np.zeros(len(costs), dtype=np.int64))


class CostGrid:
    """Counts and draws the points of a chain by one cost. Every pair of states must have a link."""

    def __init__(self, chain: Chain, cost: int, highest: int) -> None:
        """Counts the points whose cost, given by its position in `cost_names`, is at most `highest`."""
        self._chain = chain
        self._costs = [stage.costs[:, cost] for stage in chain.stages]
        self._links = [links[:, :, cost] for links in chain.link_costs]
        self._cell = highest // NUM_CELLS + 1
        self._order, self._counts = self._sort_choices()
        self._starts = [np.cumsum(counts) - counts.ravel() for counts in self._counts]
        self._sums = self._count_prefixes()

    def _sort_choices(self) -> tuple[list[IntArray], list[FloatArray]]:
        """Returns, for each stage, its choices sorted by state and cell, and their counts, of shape (states, cells)."""
        orders, counts = [], []
        for stage, costs in zip(self._chain.stages, self._costs, strict=True):
            cell = np.minimum(costs // self._cell, NUM_CELLS)  # the extra last cell collects costs beyond the highest
            bin_index = stage.state_position * (NUM_CELLS + 1) + cell
            orders.append(np.argsort(bin_index, kind="stable"))
            count = np.bincount(bin_index, minlength=len(stage.states) * (NUM_CELLS + 1))
            counts.append(count.reshape(len(stage.states), -1).astype(np.float64))
        return orders, counts

    def _count_prefixes(self) -> list[FloatArray]:
        """Counts the prefixes up to each stage, by the stage's state and the cell of their sum: (states, cells)."""
        sums = [self._counts[0][:, :NUM_CELLS]]
        for stage_index, (links, counts) in enumerate(zip(self._links, self._counts[1:], strict=True)):
            prefixes = np.zeros((counts.shape[0], NUM_CELLS))
            for after in range(counts.shape[0]):
                before = np.zeros(NUM_CELLS)
                for state, link in enumerate((links[:, after] // self._cell).tolist()):
                    if link < NUM_CELLS:
                        before[link:] += sums[stage_index][state, : NUM_CELLS - link]
                prefixes[after] = np.convolve(before, counts[after, :NUM_CELLS])[:NUM_CELLS]
            sums.append(prefixes)
        return sums

    def _cells_between(self, low: int, high: int) -> slice:
        """Returns the cells that hold every point whose true cost lies from `low` to `high`."""
        # Every choice and every link is rounded down by less than one cell.
        num_roundings = len(self._costs) + len(self._links)
        return slice(max(0, low // self._cell - num_roundings), max(0, high // self._cell + 1))

    def count(self, low: int, high: int) -> float:
        """Returns an upper bound on the number of points that cost from `low` to `high`."""
        return float(self._sums[-1][:, self._cells_between(low, high)].sum())

    def draw(self, rng: np.random.Generator, low: int, high: int) -> Point | None:
        """Draws a point uniformly over a superset of those that cost from `low` to `high`; None if it lies outside.

        Raises `ValueError` if `count` is 0.
        """
        cells = self._cells_between(low, high)
        state, cell = divmod(_draw_position(self._sums[-1][:, cells].ravel(), rng), self._sums[-1][:, cells].shape[1])
        point = self._draw_backwards(rng, state, cell + cells.start)
        cost = self.cost(point)
        return point if low <= cost <= high else None

    def _draw_backwards(self, rng: np.random.Generator, state: int, cell: int) -> Point:
        """Draws a point uniformly over those that end in a state with a sum in a cell, from the last stage on."""
        choices: list[int] = []
        for stage_index in range(len(self._costs) - 1, 0, -1):
            counts = self._counts[stage_index][state, : cell + 1]
            # Row `before`: points by the cell of this stage's choice, for that state of the stage before.
            weights = np.zeros((self._sums[stage_index - 1].shape[0], cell + 1))
            links = (self._links[stage_index - 1][:, state] // self._cell).tolist()
            for before, link in enumerate(links):
                room = cell - link + 1
                if room > 0:
                    weights[before, :room] = counts[:room] * self._sums[stage_index - 1][before, :room][::-1]
            before, own_cell = divmod(_draw_position(weights.ravel(), rng), cell + 1)
            choices.append(self._draw_choice(rng, stage_index, state, own_cell))
            state, cell = before, cell - own_cell - links[before]
        choices.append(self._draw_choice(rng, 0, state, cell))
        return tuple(reversed(choices))

    def _draw_choice(self, rng: np.random.Generator, stage_index: int, state: int, cell: int) -> int:
        """Draws one of a stage's choices in a state and a cell uniformly."""
        start = int(self._starts[stage_index][state * (NUM_CELLS + 1) + cell])
        return int(self._order[stage_index][start + rng.integers(int(self._counts[stage_index][state, cell]))])

    def cost(self, point: Point) -> int:
        """Returns the true cost of a point."""
        states = [int(s.state_position[choice]) for s, choice in zip(self._chain.stages, point, strict=True)]
        own = sum(int(costs[choice]) for costs, choice in zip(self._costs, point, strict=True))
        return own + sum(int(links[pair]) for links, pair in zip(self._links, pairwise(states), strict=True))


def _draw_position(weights: FloatArray, rng: np.random.Generator) -> int:
    """Draws a position with probability proportional to its weight. Raises `ValueError` without any weight."""
    total = np.cumsum(weights)
    if not len(total) or total[-1] <= 0:
        raise ValueError("there is nothing to draw from")
    return int(np.searchsorted(total, rng.random() * total[-1], side="right").clip(max=len(total) - 1))
