"""The best-known front of a problem: of a table, exact; of a landscape, the best of a long search made for it alone.

Nothing here is a strategy under comparison: it evaluates a landscape millions of times. First coordinate descent from
eight starts for each state of the space and each of 16 weights of cost against value, then evolution from that front.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.search.controls import Landscape
from benchmarks.search.gpt import GPTSpace
from benchmarks.search.gpt_domain import GPTDomain
from benchmarks.search.problems import Bounds, Problem
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.pareto import non_dominated

SEED = 0
WEIGHTS = np.geomspace(0.02, 20, 16)
"""Of normalised cost against normalised value."""
NUM_STARTS, SWEEPS = 8, 3
ROUNDS, CHILDREN = 400, 4096
MAX_CHANGES = 3
START_DRAWS = 2000


@dataclass
class Archive:
    """The non-dominated networks among all that were evaluated: levels, values, costs."""

    levels: IntArray
    values: FloatArray
    costs: IntArray
    evaluations: int = 0

    @staticmethod
    def empty(width: int) -> Archive:
        return Archive(np.empty((0, width), dtype=np.int64), np.empty(0), np.empty(0, dtype=np.int64))

    def add(self, levels: IntArray, values: FloatArray, costs: IntArray) -> None:
        self.evaluations += len(levels)
        all_levels = np.vstack([self.levels, levels])
        all_values, all_costs = np.concatenate([self.values, values]), np.concatenate([self.costs, costs])
        rows = np.column_stack([all_values, all_costs])
        kept = np.flatnonzero(non_dominated(rows))
        kept = kept[np.unique(rows[kept], axis=0, return_index=True)[1]]
        self.levels, self.values, self.costs = all_levels[kept], all_values[kept], all_costs[kept]


class FrontSearch:
    """Searches a landscape over the networks of a domain, in batches."""

    def __init__(self, domain: GPTDomain, landscape: Landscape, bounds: Bounds) -> None:
        self.domain, self.space, self.landscape, self.bounds = domain, domain.space, landscape, bounds
        self._rng = np.random.default_rng(SEED)
        self.archive = Archive.empty(1 + 2 * self.space.most_layers)

    def run(self) -> Archive:
        drawn = self.domain.draw_stratified(self._rng, START_DRAWS, "params")
        self._evaluate(np.array([self.space.levels(network) for network in drawn]))
        self._descend(_starts(self.space, self._rng))
        for _ in range(ROUNDS):
            self._evaluate(self._children())
        return self.archive

    def _evaluate(self, levels: IntArray) -> tuple[FloatArray, FloatArray]:
        """Returns normalised values, and normalised costs with a penalty outside the budget; feasible ones are
        archived."""
        values, costs = self.landscape(levels), self.space.params_of_levels(levels)
        (least, most) = self.domain.bounds[0]
        inside = (costs >= least) & (costs <= most)
        self.archive.add(levels[inside], values[inside], costs[inside])
        normalised = self.bounds.normalised(values, costs)
        penalty = np.maximum(np.maximum(costs / most - 1, least / costs - 1), 0)
        return normalised[:, 0] + 1e4 * penalty, normalised[:, 1]

    def _descend(self, starts: IntArray) -> None:
        """Descends by coordinates, one layer's MLP and heads at a time, from every start under every weight."""
        levels = np.repeat(starts, len(WEIGHTS), axis=0)
        weights = np.tile(WEIGHTS, len(starts))
        num_layers = np.array([layers for _, layers, _ in self.space.states])[levels[:, 0]]
        for _ in range(SWEEPS):
            for layer in range(self.space.most_layers):
                present = np.flatnonzero(num_layers > layer)
                levels[present] = self._best_layer(levels[present], weights[present], layer)

    def _best_layer(self, levels: IntArray, weights: FloatArray, layer: int) -> IntArray:
        """Returns each row with its best choice in one layer."""
        most, ratios, heads = self.space.most_layers, len(self.space.mlp_ratios), len(self.space.heads)
        options = np.repeat(levels[:, None, :], ratios * heads, axis=1)
        options[:, :, 1 + layer] = np.repeat(np.arange(1, 1 + ratios), heads)
        options[:, :, 1 + most + layer] = np.tile(np.arange(1, 1 + heads), ratios)
        value, cost = self._evaluate(options.reshape(-1, options.shape[2]))
        score = (value + np.repeat(weights, ratios * heads) * cost).reshape(options.shape[:2])
        best: IntArray = options[np.arange(len(levels)), score.argmin(axis=1)]
        return best

    def _children(self) -> IntArray:
        """Returns mutants and crossings of the front, its members taken evenly over their costs."""
        archive, rng = self.archive, self._rng
        aims = rng.uniform(archive.costs.min(), archive.costs.max(), CHILDREN)
        order = np.argsort(archive.costs)
        at = np.clip(np.searchsorted(archive.costs[order], aims), 0, len(order) - 1)
        children = archive.levels[order[at]].copy()
        mates = archive.levels[order[np.clip(at + rng.integers(-8, 9, CHILDREN), 0, len(order) - 1)]]
        crossed = (children[:, 0] == mates[:, 0])[:, None] & (rng.random((CHILDREN, 1)) < 0.5)
        children = np.where(crossed & (rng.random(children.shape) < 0.5), mates, children)
        for _ in range(MAX_CHANGES):
            rows = np.flatnonzero(rng.random(CHILDREN) < 0.6)
            genes = rng.integers(1, children.shape[1], len(rows))
            present = children[rows, genes] > 0
            children[rows[present], genes[present]] = rng.integers(1, 4, int(present.sum()))
        return children


def _starts(space: GPTSpace, rng: np.random.Generator) -> IntArray:
    """Returns random networks of every state."""
    rows = []
    for state, (_, layers, _) in enumerate(space.states):
        absent = np.arange(space.most_layers) >= layers
        for _ in range(NUM_STARTS):
            drawn = rng.integers(1, 4, (2, space.most_layers))
            rows.append([state, *np.where(absent, 0, drawn).ravel()])
    return np.array(rows, dtype=np.int64)


def best_known(problem: Problem) -> tuple[FloatArray, int]:
    """Returns the front as rows (value, cost), and how many evaluations it took; a table's is exact."""
    if problem.landscape is not None and isinstance(problem.domain, GPTDomain):
        archive = FrontSearch(problem.domain, problem.landscape, problem.bounds).run()
        return np.column_stack([archive.values, archive.costs]), archive.evaluations
    members = list(problem.domain.members or ())
    rows = np.array([(problem.value(member), problem.cost(member)) for member in members])
    front: FloatArray = np.unique(rows[non_dominated(rows)], axis=0)
    return front, len(rows)
