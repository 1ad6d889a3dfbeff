"""Balanced sampling: every width and every variant is about equally frequent, at costs over the whole range.

A supernet is trained on such draws, and a search begins with them. Under a budget, wide stages are rare among the
feasible networks, and rarer still among draws stratified by cost: under a tight one, less than one network in a
thousand may have the widest first stage. The shared weights that only they use would hardly be trained, and they would
look worse than they are (benchmarks/NOTES.md). So the space is cut into parts, one for each combination of widths and
of variants (kind and norm of the stem, residual connections, head). A draw chooses a part, and then a network of it,
stratified by cost.

The probability of a part is the product of one factor for each of its widths and variants. The factors make these
equally frequent, as far as the budget and `MAX_WEIGHT` allow; iterative proportional fitting finds them (Deming and
Stephan, 1940).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product
from math import prod

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.errors import BudgetError
from sret_nas.feasible.feasible_set import CostName, FeasibleSet
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.space.search_space import SearchSpace

MAX_PARTS, MAX_PARTS_OF_MANY_STAGES = 64, 32
"""Most parts of a space with up to three stages, and of one with more, where a rich part takes 0.7 s and 30 MB.
If there are more combinations, neighbouring widths of a stage share a part."""
SWEEPS = 100
"""Iterations of the fit over all factors."""
MAX_WEIGHT = 4.0
"""Largest factor of a width, relative to the geometric mean of its stage (of a variant: of its values).
If a budget allows very few wide networks, they stay rarer; otherwise the same few would be drawn again and again."""

Widths = tuple[int, ...]


class BalancedSampler:
    """Draws networks inside a budget such that all widths of a stage, and all variants, are about equally frequent."""

    def __init__(self, space: SearchSpace, budget: Budget, by: CostName = "flops") -> None:
        """Cuts the space into parts; the networks of a part are cut into strata of one cost on its first draw.

        Raises `BudgetError` if no network lies inside the budget.
        """
        FeasibleSet(space, budget).check()
        parts = [(values, part) for values, part in _parts(space) if not FeasibleSet(part, budget).is_empty]
        self._space, self._budget, self._by = space, budget, by
        self.parts = [part for _, part in parts]
        """The parts that have networks inside the budget: together they are the space, and no network is in two."""
        self._samplers: dict[int, StratifiedSampler] = {}
        self.probabilities = _balanced(np.array([values for values, _ in parts]))
        """Probability of each part, of shape (parts,)."""

    def sample_many(self, rng: np.random.Generator, num_draws: int) -> list[ArchConfig]:
        """Draws networks in random order; a network may occur more than once."""
        chosen = rng.choice(len(self.parts), num_draws, p=self.probabilities)
        parts, counts = np.unique(chosen, return_counts=True)
        drawn = {
            part: self._draw(part, rng, count) for part, count in zip(parts.tolist(), counts.tolist(), strict=True)
        }
        return [drawn[part].pop() for part in chosen.tolist()]

    def _draw(self, part: int, rng: np.random.Generator, num_draws: int) -> list[ArchConfig]:
        """Draws from a part or, where counts are estimates and draws keep missing its networks, from all of them."""
        if part not in self._samplers:
            self._samplers[part] = StratifiedSampler(self.parts[part], self._budget, by=self._by)
        try:
            return self._samplers[part].sample_many(rng, num_draws)
        except BudgetError:
            return self._whole.sample_many(rng, num_draws)

    @cached_property
    def _whole(self) -> StratifiedSampler:
        return StratifiedSampler(self._space, self._budget, by=self._by)


def _parts(space: SearchSpace) -> Iterator[tuple[tuple[int, ...], SearchSpace]]:
    """Yields the parts of a space, each after the positions of its widths and variants among those of the space."""
    stems = list(dict.fromkeys((stem.kind, stem.norm) for stem in space.stem.stems))
    variants = list(product(range(len(stems)), range(len(space.residual)), range(len(space.head))))
    most = MAX_PARTS if len(space.stages) <= 3 else MAX_PARTS_OF_MANY_STAGES
    groups = _width_groups([stage.width for stage in space.stages], most // len(variants))
    for widths in product(*(range(len(stage)) for stage in groups)):
        stages = tuple(
            stage.model_copy(update={"width": groups[number][position]})
            for number, (stage, position) in enumerate(zip(space.stages, widths, strict=True))
        )
        for stem, residual, head in variants:
            kind, norm = stems[stem]
            changes = {
                "stages": stages,
                "stem": space.stem.model_copy(update={"kind": (kind,), "norm": (norm,)}),
                "residual": (space.residual[residual],),
                "head": (space.head[head],),
            }
            yield (*widths, stem, residual, head), space.model_copy(update=changes)


def _width_groups(widths: Sequence[Widths], most: int) -> list[list[Widths]]:
    """Returns each stage's widths in groups of neighbours, of which at most `most` combinations are made.

    Where all widths have a group of their own, and that is too many, the stage with the most groups gets one less.
    """
    sizes = [len(stage) for stage in widths]
    while prod(sizes) > max(most, 1):
        sizes[sizes.index(max(sizes))] -= 1
    return [
        [tuple(group.tolist()) for group in np.array_split(sorted(stage), size)]
        for stage, size in zip(widths, sizes, strict=True)
    ]


def _balanced(positions: IntArray) -> FloatArray:
    """Returns probabilities of parts, of shape (parts,), that make the values in each column equally probable.

    Args:
        positions: the value that each part has in each column, of shape (parts, columns).
    """
    columns = [np.unique(column, return_inverse=True)[1] for column in positions.T]
    logs = [np.zeros(column.max() + 1) for column in columns]
    limit = np.log(MAX_WEIGHT)
    for _ in range(SWEEPS):
        for number, column in enumerate(columns):
            log = logs[number]
            share = np.bincount(column, _probabilities(columns, logs))
            log = log - 0.5 * np.log(share * len(share))  # half a step: factors affect each other
            logs[number] = np.clip(log - log.mean(), -limit, limit)
    return _probabilities(columns, logs)


def _probabilities(columns: Sequence[IntArray], logs: Sequence[FloatArray]) -> FloatArray:
    """Returns normalised products of the factors of parts, given their logarithms."""
    total = sum(log[column] for log, column in zip(logs, columns, strict=True))
    weights = np.exp(total - np.max(total))
    probabilities: FloatArray = weights / weights.sum()
    return probabilities
