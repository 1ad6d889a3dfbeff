"""Landscapes on which an additive model has nothing to gain, on the networks and costs of HW-GPT S.

Both are functions of a network's levels (`GPTSpace.levels`), the same in every process.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks.search.gpt import GPTSpace
from benchmarks.search.gpt_domain import GPTDomain
from sret_nas.arrays import FloatArray, IntArray

Landscape = Callable[[IntArray], FloatArray]
"""From levels, of shape (n, 1 + 2 x layers), to values, of shape (n,), to be made small."""

SHUFFLED_DRAWS = 4096
NUM_PAIRS, MIN_DISTANCE = 24, 3
INTERACTION_SD = 2.0
"""Of the planted interactions, in perplexity: 8 times what a cubic in log parameters leaves of HW-GPT S (0.24)."""
TREND = (43.0, 21.3)
"""Perplexity of the cheapest and of the most expensive network of the planted landscape, before interactions."""


def hashed(levels: IntArray, salt: int) -> npt.NDArray[np.uint64]:
    """Returns 64 bits per row, of shape (n,), that look drawn at random: the finaliser of
    SplitMix64, column by column."""
    state = np.full(len(levels), salt, dtype=np.uint64)
    for column in levels.T.astype(np.uint64):
        state = (state ^ (column + np.uint64(1))) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def shuffled(landscape: Landscape, domain: GPTDomain, salt: int = 1) -> Landscape:
    """Gives every network the value of another: one of 4,096 uniform draws, chosen by the network's hash."""
    rng = np.random.default_rng(salt)
    values = landscape(np.array([domain.space.levels(domain.draw(rng)) for _ in range(SHUFFLED_DRAWS)]))
    return lambda levels: values[(hashed(levels, salt) % np.uint64(SHUFFLED_DRAWS)).astype(np.intp)]


class PlantedPairs:
    """A trend over log parameters, plus products of two layers' choices at least three layers apart.

    Every choice of a layer has a random number for each pair that the layer is in; over a layer's choices these have
    mean 0 and variance 1, so with the state given, nothing of the products is a sum over layers. Absent layers add 0.
    """

    def __init__(self, space: GPTSpace, seed: int = 2) -> None:
        self.space = space
        rng = np.random.default_rng(seed)
        layers = range(space.most_layers)
        far = [(one, other) for one in layers for other in layers if other - one >= MIN_DISTANCE]
        self.pairs = [far[at] for at in rng.choice(len(far), NUM_PAIRS, replace=False)]
        drawn = rng.normal(size=(NUM_PAIRS, 2, 9))
        drawn -= drawn.mean(axis=2, keepdims=True)
        drawn /= drawn.std(axis=2, keepdims=True)
        self._effects = np.concatenate([np.zeros((NUM_PAIRS, 2, 1)), drawn], axis=2)
        costs = space.params_of_levels(np.array([self._extreme(0), self._extreme(-1)]))
        self._log_costs = np.log(costs)

    def _extreme(self, which: int) -> tuple[int, ...]:
        embed, layers = self.space.embeds[which], self.space.layers[which]
        absent = (0,) * (self.space.most_layers - layers)
        level = (1, 3)[which]
        state = self.space.states.index((embed, layers, which == -1))
        return state, *(level,) * layers, *absent, *(level,) * layers, *absent

    def __call__(self, levels: IntArray) -> FloatArray:
        most = self.space.most_layers
        mlp, heads = levels[:, 1 : 1 + most], levels[:, 1 + most :]
        choice = np.where(mlp > 0, 3 * (mlp - 1) + heads, 0)
        products = sum(
            effects[0, choice[:, one]] * effects[1, choice[:, other]]
            for (one, other), effects in zip(self.pairs, self._effects, strict=True)
        )
        trend = np.interp(np.log(self.space.params_of_levels(levels)), self._log_costs, TREND)
        total: FloatArray = trend + INTERACTION_SD / np.sqrt(NUM_PAIRS) * products
        return total
