"""Chooses few examples that together have every pair of choices that many have: what costs much is tried on those."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from itertools import combinations

import numpy as np


def pairs(choices: Collection[Hashable]) -> Iterable[frozenset[Hashable]]:
    """Returns all pairs of an example's choices, and each choice alone."""
    yield from (frozenset(pair) for pair in combinations(choices, 2))
    yield from (frozenset([choice]) for choice in choices)


def smallest_cover(examples: Sequence[Collection[Hashable]], costs: Sequence[float]) -> list[int]:
    """Returns the indices of examples that have, together, every pair of choices that any example has.

    Greedy: the next example is the one with the most new pairs for its cost, so the result is small, not the smallest.

    Args:
        examples: the choices of each example.
        costs: what it costs to try each example.
    """
    numbers: dict[frozenset[Hashable], int] = {}
    rows = [[numbers.setdefault(pair, len(numbers)) for pair in pairs(choices)] for choices in examples]
    has = np.zeros((len(examples), len(numbers)), np.float32)
    for row, columns in zip(has, rows, strict=True):
        row[columns] = 1
    missing, found = np.ones(len(numbers), np.float32), list[int]()
    while missing.any():
        best = int(np.argmax(has @ missing / np.asarray(costs)))
        found.append(best)
        missing[has[best] == 1] = 0
    return found
