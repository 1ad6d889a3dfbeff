"""Points of a chain by their costs: the least, the members of a window, and uniform draws from one cost's window.

For draws, the cost is rounded down to a grid, and the points of each sum on the grid are counted stage by stage.
Drawing goes backwards through the counts. The window widened by the rounding holds a superset of the points asked for,
each of which is drawn with the same probability; a draw whose true cost lies outside is told as None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain, Point

NUM_CELLS = 4096
"""Cells up to the highest cost that is looked at."""


def least_from(chain: Chain, cost: int, sign: int = 1) -> list[IntArray]:
    """The least that stages s, s + 1, ... and the links between them cost, by the state of stage s: one array a stage.

    With `sign` -1 it is minus the most. Every pair of states must have its link.
    """
    least: list[IntArray] = []
    for number in reversed(range(len(chain.stages))):
        stage = chain.stages[number]
        here = np.full(len(stage.states), np.iinfo(np.int64).max)
        np.minimum.at(here, stage.state_position, sign * stage.costs[:, cost])
        if least:
            here = here + (sign * chain.link_costs[number][:, :, cost] + least[-1]).min(axis=1)
        least.append(here)
    return least[::-1]


def least_point(chain: Chain, cost: int) -> Point:
    """A point that costs the least; of several, the first."""
    point: list[int] = []
    links: IntArray = np.zeros(len(chain.stages[0].states), dtype=np.int64)
    for number, (stage, least) in enumerate(zip(chain.stages, least_from(chain, cost), strict=True)):
        state = int(np.argmin(links + least))
        choices = np.flatnonzero(stage.state_position == state)
        point.append(int(choices[np.argmin(stage.costs[choices, cost])]))
        if number < len(chain.links):
            links = chain.link_costs[number][state, :, cost]
    return tuple(point)


def members(chain: Chain, lows: Sequence[float], highs: Sequence[float]) -> Iterator[Point]:
    """All points whose costs are from `lows` to `highs` (one bound a cost), each once, in order.

    A prefix that no rest can bring inside is left at once; so few members are found among very many points.
    """
    costs = range(len(chain.cost_names))
    rest = [
        [np.column_stack(stage) for stage in zip(*(least_from(chain, cost, sign) for cost in costs), strict=True)]
        for sign in (1, -1)
    ]
    links = chain.link_costs

    def grow(point: Point, spent: IntArray) -> Iterator[Point]:
        number = len(point)
        stage = chain.stages[number]
        total = spent + stage.costs
        if number > 0:
            before = chain.stages[number - 1].state_position[point[-1]]
            total = total + links[number - 1][before, stage.state_position]
        least = most = total
        if number < len(links):
            step = links[number][stage.state_position]  # (choices, next states, costs)
            least = total + (step + rest[0][number + 1]).min(axis=1)
            most = total + (step - rest[1][number + 1]).max(axis=1)
        fits = np.flatnonzero((least <= highs).all(axis=1) & (most >= lows).all(axis=1)).tolist()
        for choice in fits:
            if number < len(links):
                yield from grow((*point, choice), total[choice])
            else:
                yield (*point, choice)

    yield from grow((), np.zeros(len(costs), dtype=np.int64))


class CostGrid:
    """The points of a chain whose cost (by its position in `cost_names`) is at most `highest`.

    Every pair of states must have its link.
    """

    def __init__(self, chain: Chain, cost: int, highest: int) -> None:
        self._chain = chain
        self._costs = [stage.costs[:, cost] for stage in chain.stages]
        self._links = [links[:, :, cost] for links in chain.link_costs]
        self._cell = highest // NUM_CELLS + 1
        self._order, self._counts = self._sorted_choices()
        self._starts = [np.cumsum(counts) - counts.ravel() for counts in self._counts]
        self._sums = self._summed()

    def _sorted_choices(self) -> tuple[list[IntArray], list[FloatArray]]:
        """Choices sorted by state and cell, and how many there are, of shape (states, cells)."""
        orders, counts = [], []
        for stage, costs in zip(self._chain.stages, self._costs, strict=True):
            cell = np.minimum(costs // self._cell, NUM_CELLS)  # the last cell holds what costs too much
            place = stage.state_position * (NUM_CELLS + 1) + cell
            orders.append(np.argsort(place, kind="stable"))
            number = np.bincount(place, minlength=len(stage.states) * (NUM_CELLS + 1))
            counts.append(number.reshape(len(stage.states), -1).astype(np.float64))
        return orders, counts

    def _summed(self) -> list[FloatArray]:
        """Prefixes up to each stage by the last one's state and the cell of their sum, of shape (states, cells)."""
        sums = [self._counts[0][:, :NUM_CELLS]]
        for number, (links, counts) in enumerate(zip(self._links, self._counts[1:], strict=True)):
            found = np.zeros((counts.shape[0], NUM_CELLS))
            for after in range(counts.shape[0]):
                before = np.zeros(NUM_CELLS)
                for state, link in enumerate((links[:, after] // self._cell).tolist()):
                    if link < NUM_CELLS:
                        before[link:] += sums[number][state, : NUM_CELLS - link]
                found[after] = np.convolve(before, counts[after, :NUM_CELLS])[:NUM_CELLS]
            sums.append(found)
        return sums

    def _reach(self, low: int, high: int) -> slice:
        """The cells that hold every point whose true cost is from `low` to `high`."""
        num_roundings = len(self._costs) + len(self._links)
        return slice(max(0, low // self._cell - num_roundings), max(0, high // self._cell + 1))

    def number(self, low: int, high: int) -> float:
        """At most how many points cost from `low` to `high`."""
        return float(self._sums[-1][:, self._reach(low, high)].sum())

    def draw(self, rng: np.random.Generator, low: int, high: int) -> Point | None:
        """A point, uniform over those that cost from `low` to `high` if it is one; None otherwise.

        Raises `ValueError` if `number` is 0.
        """
        reach = self._reach(low, high)
        state, cell = divmod(_position(self._sums[-1][:, reach].ravel(), rng), self._sums[-1][:, reach].shape[1])
        point = self._draw_backwards(rng, state, cell + reach.start)
        cost = self.cost(point)
        return point if low <= cost <= high else None

    def _draw_backwards(self, rng: np.random.Generator, state: int, cell: int) -> Point:
        choices: list[int] = []
        for number in range(len(self._costs) - 1, 0, -1):
            counts = self._counts[number][state, : cell + 1]
            # Row `before` holds, by the cell of this stage's choice, how many prefixes of that state fill the rest.
            weights = np.zeros((self._sums[number - 1].shape[0], cell + 1))
            links = (self._links[number - 1][:, state] // self._cell).tolist()
            for before, link in enumerate(links):
                room = cell - link + 1
                if room > 0:
                    weights[before, :room] = counts[:room] * self._sums[number - 1][before, :room][::-1]
            before, own = divmod(_position(weights.ravel(), rng), cell + 1)
            choices.append(self._draw_choice(rng, number, state, own))
            state, cell = before, cell - own - links[before]
        choices.append(self._draw_choice(rng, 0, state, cell))
        return tuple(reversed(choices))

    def _draw_choice(self, rng: np.random.Generator, number: int, state: int, cell: int) -> int:
        start = int(self._starts[number][state * (NUM_CELLS + 1) + cell])
        return int(self._order[number][start + rng.integers(int(self._counts[number][state, cell]))])

    def cost(self, point: Point) -> int:
        """The true cost of a point."""
        states = [int(s.state_position[choice]) for s, choice in zip(self._chain.stages, point, strict=True)]
        own = sum(int(costs[choice]) for costs, choice in zip(self._costs, point, strict=True))
        return own + sum(int(links[pair]) for links, pair in zip(self._links, pairwise(states), strict=True))


def _position(weights: FloatArray, rng: np.random.Generator) -> int:
    """A position, with probability proportional to its weight."""
    total = np.cumsum(weights)
    if not len(total) or total[-1] <= 0:
        raise ValueError("there is nothing to draw from")
    return int(np.searchsorted(total, rng.random() * total[-1], side="right").clip(max=len(total) - 1))
