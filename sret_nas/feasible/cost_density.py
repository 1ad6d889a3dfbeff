"""Importance-sampling estimate of the number of a chain's points in each cell of a grid over two costs.

Uniform draws rarely meet the cheapest and the most expensive networks, because they are few. Points are therefore also
drawn with probabilities that fall or rise exponentially with their costs. Such a probability is a product over stages
and links, so draws need no rejection. Each draw is weighted by its inverse density in the mixture of all proposals (the
balance heuristic of Veach and Guibas, "Optimally combining sampling techniques for Monte Carlo rendering", SIGGRAPH
1995).
"""

from __future__ import annotations

from itertools import product

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain

_TILTS = (-16.0, -5.0, -1.5, 0.0, 1.5, 5.0, 16.0)
"""Slopes of the log probability of a point, per standard deviation of a cost."""


def estimate_counts(chain: Chain, edges: tuple[IntArray, IntArray], draws: int, rng: np.random.Generator) -> FloatArray:
    """Estimates the number of a chain's points in each cell of a grid, without bias.

    Args:
        chain: A chain with two costs.
        edges: Ascending edges of the cells for each cost; a cell includes its lower edge but not its upper one.
        draws: Draws of all proposals together, rounded up to equally many for each.
        rng: Source of random numbers.

    Returns:
        Counts of shape (cells of the first cost, cells of the second); 0 for cells that no draw fell into.
    """
    spread = np.sqrt(sum(np.var(stage.costs, axis=0) for stage in chain.stages))
    tilts = np.array(list(product(_TILTS, repeat=2))) / np.maximum(spread, 1)
    proposals = [_ExponentialProposal(chain, tilt) for tilt in tilts]
    draws_each = -(-draws // len(proposals))
    costs = np.concatenate([proposal.draw(draws_each, rng) for proposal in proposals])
    log_densities = -(costs @ tilts.T) - [proposal.log_total for proposal in proposals]
    weight = len(proposals) / np.exp(log_densities).sum(axis=1) / len(costs)
    cell = [np.searchsorted(ends, cost, side="right") for ends, cost in zip(edges, costs.T, strict=True)]
    shape = len(edges[0]) + 1, len(edges[1]) + 1
    counts = np.zeros(shape)
    np.add.at(counts, tuple(cell), weight)
    return counts[1:-1, 1:-1]


class _ExponentialProposal:
    """Draws points with probability proportional to `exp(-tilt @ costs)`.

    `log_total` is the log of the normalising constant: the sum of that weight over all points.
    """

    def __init__(self, chain: Chain, tilt: FloatArray) -> None:
        """Sums the weights of all points by the forward algorithm, for a tilt of shape (costs,)."""
        self._choices = [_by_state(stage.state) for stage in chain.stages]
        self._costs = [stage.costs for stage in chain.stages]
        self._link_costs = chain.link_costs
        self._log_weights = [-(costs @ tilt) for costs in self._costs]
        self._log_links = [
            np.where(is_link, -(costs @ tilt), -np.inf)
            for is_link, costs in zip(chain.is_link, chain.link_costs, strict=True)
        ]
        # For each stage and state, the log of the summed weights of all prefixes that end there.
        self._log_sums: list[FloatArray] = []
        for stage_index, choices in enumerate(self._choices):
            sums = np.array([_log_sum(self._log_weights[stage_index][chosen]) for chosen in choices.values()])
            if stage_index:
                sums += _log_sum(self._log_sums[-1][:, None] + self._log_links[stage_index - 1])
            self._log_sums.append(sums)
        self.log_total = float(_log_sum(self._log_sums[-1]))

    def draw(self, num_draws: int, rng: np.random.Generator) -> IntArray:
        """Draws points and returns their costs, of shape (num_draws, costs)."""
        state = _draw_by_log_weight(self._log_sums[-1], num_draws, rng)
        costs = self._draw_choices(len(self._costs) - 1, state, rng)
        for stage in reversed(range(len(self._link_costs))):
            before = np.empty(num_draws, dtype=np.int64)
            for after in np.unique(state).tolist():
                chosen = np.flatnonzero(state == after)
                weight = self._log_sums[stage] + self._log_links[stage][:, after]
                before[chosen] = _draw_by_log_weight(weight, len(chosen), rng)
            costs += self._link_costs[stage][before, state]
            state = before
            costs += self._draw_choices(stage, state, rng)
        return costs

    def _draw_choices(self, stage: int, state: IntArray, rng: np.random.Generator) -> IntArray:
        """Draws a choice of a stage for each of n states and returns its costs, of shape (n, costs)."""
        costs = np.empty((len(state), self._costs[stage].shape[1]), dtype=np.int64)
        for position, choices in enumerate(self._choices[stage].values()):
            chosen = np.flatnonzero(state == position)
            drawn = _draw_by_log_weight(self._log_weights[stage][choices], len(chosen), rng)
            costs[chosen] = self._costs[stage][choices[drawn]]
        return costs


def _by_state(states: IntArray) -> dict[int, IntArray]:
    """Groups choices by state, in ascending order of the states."""
    return {state: np.flatnonzero(states == state) for state in np.unique(states).tolist()}


def _log_sum(logarithms: FloatArray) -> FloatArray:
    """Returns the log of the sum over the first axis of values given by their logs, without overflow."""
    most = logarithms.max(axis=0)
    total: FloatArray = most + np.log(np.exp(logarithms - most).sum(axis=0))
    return total


def _draw_by_log_weight(logarithms: FloatArray, num_draws: int, rng: np.random.Generator) -> IntArray:
    """Draws positions with probabilities proportional to weights given by their logs."""
    total = np.cumsum(np.exp(logarithms - logarithms.max()))
    # Below 1 times a total is rounded to less than the total: no position is beyond the last.
    positions: IntArray = np.searchsorted(total, rng.random(num_draws) * total[-1], side="right")
    return positions
