"""The GPTs of a space, counted by their parameters and drawn uniformly: a layer's are linear in MLP ratio and heads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from benchmarks.search.gpt import GPT, GPTSpace
from sret_nas.arrays import FloatArray, IntArray


def _steps(values: tuple[float, ...]) -> tuple[int, ...]:
    """Returns how many steps, as wide as the least gap, each value lies above the least: (8, 16, 20) is (0, 2, 3)."""
    ordered = sorted(values)
    gap = min(high - low for low, high in pairwise(ordered))
    return tuple(round((value - ordered[0]) / gap) for value in values)


class _Sums:
    """Sequences of whole numbers counted by their sum, and drawn uniformly given it."""

    def __init__(self, values: tuple[int, ...], length: int) -> None:
        self.values = values
        self._ways = [[1]]  # of each length, the number of sequences per sum: whole numbers of any size
        for _ in range(length):
            ways = [0] * (len(self._ways[-1]) + max(values))
            for value in values:
                for total, number in enumerate(self._ways[-1]):
                    ways[total + value] += number
            self._ways.append(ways)

    def counts(self, length: int) -> FloatArray:
        return np.array(self._ways[length], dtype=np.float64)

    def draw(self, length: int, total: int, rng: np.random.Generator) -> list[int]:
        """Returns which value each element has: uniform over all sequences with that sum, from the last element
        backwards."""
        chosen = []
        for before in reversed(range(length)):
            ways = [self._at(before, total - value) / self._at(before + 1, total) for value in self.values]
            at = min(int(np.searchsorted(np.cumsum(ways), rng.random(), side="right")), len(ways) - 1)
            chosen.append(at)
            total -= self.values[at]
        return chosen[::-1]

    def _at(self, length: int, total: int) -> int:
        ways = self._ways[length]
        return ways[total] if 0 <= total < len(ways) else 0


@dataclass(frozen=True, eq=False)
class Cells:
    """Networks grouped by what fixes their parameters: state, sum of MLP ratios, sum of heads. One row per group."""

    params: IntArray
    count: FloatArray
    where: IntArray
    """State, sum of the MLP ratios' steps above the least, sum of the heads' steps above the least."""

    def inside(self, least: float, most: float) -> Cells:
        kept = (self.params >= least) & (self.params <= most)
        return Cells(self.params[kept], self.count[kept], self.where[kept])

    @cached_property
    def shares(self) -> FloatArray:
        """Cumulative shares of the networks, group by group."""
        total: FloatArray = np.cumsum(self.count)
        return total / total[-1]


class GPTSums:
    """The networks of a space counted by their parameters: a layer's are linear in its MLP ratio and its heads."""

    def __init__(self, space: GPTSpace) -> None:
        self.space = space
        self._ratios = _Sums(_steps(space.mlp_ratios), space.most_layers)
        self._heads = _Sums(_steps(space.heads), space.most_layers)

    @cached_property
    def cells(self) -> Cells:
        groups = [self._of_state(state) for state in range(len(self.space.states))]
        return Cells(*(np.concatenate(columns) for columns in zip(*groups, strict=True)))

    def _of_state(self, state: int) -> tuple[IntArray, FloatArray, IntArray]:
        embed, layers, bias = self.space.states[state]
        count = np.outer(self._ratios.counts(layers), self._heads.counts(layers))
        ratio, head = np.nonzero(count)
        (low_ratio, next_ratio), (low, more) = sorted(self.space.mlp_ratios)[:2], sorted(self.space.heads)[:2]
        least = self.space.layer_params(embed, bias, low_ratio, low)
        per_ratio = self.space.layer_params(embed, bias, next_ratio, low) - least
        per_head = self.space.layer_params(embed, bias, low_ratio, more) - least
        head_unit = sorted(_steps(self.space.heads))[1]
        params = self.space.outer_params(embed) + layers * least + per_ratio * ratio + per_head // head_unit * head
        return params, count[ratio, head], np.column_stack([np.full(len(ratio), state), ratio, head])

    def draw(self, cells: Cells, rng: np.random.Generator) -> GPT:
        """Draws uniformly over the networks of the cells, to the rounding of doubles."""
        at = min(int(np.searchsorted(cells.shares, rng.random(), side="right")), len(cells.shares) - 1)
        state, ratio, head = cells.where[at].tolist()
        embed, layers, bias = self.space.states[state]
        ratios, heads = self._ratios.draw(layers, ratio, rng), self._heads.draw(layers, head, rng)
        return GPT(
            embed,
            bias,
            tuple(self.space.mlp_ratios[level] for level in ratios),
            tuple(self.space.heads[level] for level in heads),
        )


@lru_cache(maxsize=8)
def sums_of(space: GPTSpace) -> GPTSums:
    """Returns a space's sums, kept: every search of it needs them."""
    return GPTSums(space)
