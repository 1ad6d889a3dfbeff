"""Where the points of a chain lie in its costs: how many are in each cell of a grid, estimated from draws.

Uniform draws hardly ever meet the cheapest and the most expensive networks, which are few. So points are also drawn
with a probability that falls, or rises, exponentially with their costs; that is a product over stages and links, so no
draw is rejected. Each counts as many points as its inverse probability in the mixture of all (the balance heuristic of
Veach and Guibas, "Optimally combining sampling techniques for Monte Carlo rendering", SIGGRAPH 1995).
"""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain

_TILTS = (-16.0, -5.0, -1.5, 0.0, 1.5, 5.0, 16.0)
"""Slopes of the logarithm of a point's probability over a standard deviation of a cost."""


def estimate_counts(chain: Chain, edges: tuple[IntArray, IntArray], draws: int, rng: np.random.Generator) -> FloatArray:
    """How many points a chain with two costs has in each cell of a grid, of shape (cells of the first cost, second).

    `edges` are the cells' ends, ascending; a cell holds its lower end, not its upper one. Without bias; cells where
    none of about `draws` draws fell are 0.
    """
    spread = np.sqrt(sum(np.var(stage.costs, axis=0) for stage in chain.stages))
    tilts = np.array(list(product(_TILTS, repeat=2))) / np.maximum(spread, 1)
    families = [_ExponentialProposal(chain, tilt) for tilt in tilts]
    each = -(-draws // len(families))
    costs = np.concatenate([family.draw(each, rng) for family in families])
    log_densities = -(costs @ tilts.T) - [family.log_total for family in families]
    weight = len(families) / np.exp(log_densities).sum(axis=1) / len(costs)
    cell = [np.searchsorted(ends, cost, side="right") for ends, cost in zip(edges, costs.T, strict=True)]
    shape = len(edges[0]) + 1, len(edges[1]) + 1
    numbers = np.zeros(shape)
    np.add.at(numbers, tuple(cell), weight)
    return numbers[1:-1, 1:-1]


class _ExponentialProposal:
    """Points drawn with a probability proportional to `exp(-tilt @ costs)`; `log_total` is its sum over all points."""

    def __init__(self, chain: Chain, tilt: FloatArray) -> None:
        self._choices = [_by_state(stage.state) for stage in chain.stages]
        self._costs = [stage.costs for stage in chain.stages]
        self._link_costs = [
            np.array([[links[before, after] for after in later] for before in earlier])
            for links, (earlier, later) in zip(chain.links, pairwise(self._choices), strict=True)
        ]
        self._log_weights = [-(costs @ tilt) for costs in self._costs]
        self._log_links = [-(costs @ tilt) for costs in self._link_costs]
        # What the beginnings of points that end in a state weigh together, stage by stage.
        self._log_sums: list[FloatArray] = []
        for number, choices in enumerate(self._choices):
            sums = np.array([_log_sum(self._log_weights[number][chosen]) for chosen in choices.values()])
            if number:
                sums += _log_sum(self._log_sums[-1][:, None] + self._log_links[number - 1])
            self._log_sums.append(sums)
        self.log_total = float(_log_sum(self._log_sums[-1]))

    def draw(self, number: int, rng: np.random.Generator) -> IntArray:
        """The costs of points drawn, of shape (number, costs)."""
        state = _draw_by_log_weight(self._log_sums[-1], number, rng)
        costs = self._draw_choices(len(self._costs) - 1, state, rng)
        for stage in reversed(range(len(self._link_costs))):
            before = np.empty(number, dtype=np.int64)
            for after in np.unique(state).tolist():
                chosen = np.flatnonzero(state == after)
                weight = self._log_sums[stage] + self._log_links[stage][:, after]
                before[chosen] = _draw_by_log_weight(weight, len(chosen), rng)
            costs += self._link_costs[stage][before, state]
            state = before
            costs += self._draw_choices(stage, state, rng)
        return costs

    def _draw_choices(self, stage: int, state: IntArray, rng: np.random.Generator) -> IntArray:
        """The costs of a choice of a stage for each state, of shape (n, costs)."""
        costs = np.empty((len(state), self._costs[stage].shape[1]), dtype=np.int64)
        for position, choices in enumerate(self._choices[stage].values()):
            chosen = np.flatnonzero(state == position)
            drawn = _draw_by_log_weight(self._log_weights[stage][choices], len(chosen), rng)
            costs[chosen] = self._costs[stage][choices[drawn]]
        return costs


def _by_state(states: IntArray) -> dict[int, IntArray]:
    """The choices that have each state, by state in ascending order."""
    return {state: np.flatnonzero(states == state) for state in np.unique(states).tolist()}


def _log_sum(logarithms: FloatArray) -> FloatArray:
    """The logarithm of a sum over the first axis, of summands given by their logarithms."""
    most = logarithms.max(axis=0)
    total: FloatArray = most + np.log(np.exp(logarithms - most).sum(axis=0))
    return total


def _draw_by_log_weight(logarithms: FloatArray, number: int, rng: np.random.Generator) -> IntArray:
    """Positions drawn with probabilities proportional to weights that are given by their logarithms."""
    total = np.cumsum(np.exp(logarithms - logarithms.max()))
    positions: IntArray = np.searchsorted(total, rng.random(number) * total[-1], side="right")
    return positions.clip(max=len(total) - 1)
