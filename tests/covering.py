"""Chooses few examples that together have all that many have, so that what costs much is tried on those."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from itertools import combinations

import numpy as np


def pairs(choices: Collection[Hashable]) -> Iterable[frozenset[Hashable]]:
    """Returns all pairs of an example's choices, and each choice alone."""
    yield from (frozenset(pair) for pair in combinations(choices, 2))
    yield from (frozenset([choice]) for choice in choices)


def smallest_cover(examples: Sequence[Collection[Hashable]], costs: Sequence[float]) -> list[int]:
    """Returns the indices of examples that have, together, everything that any example has.

    Greedy: the next example is the one with the most that is new for its cost, where what few examples have counts for
    more. The result is small, not the smallest.

    Args:
        examples: what each example has, such as its `pairs`.
        costs: what it costs to try each example.
    """
    numbers: dict[Hashable, int] = {}
    rows = [[numbers.setdefault(one, len(numbers)) for one in example] for example in examples]
    has = np.zeros((len(examples), len(numbers)), np.float32)
    for row, columns in zip(has, rows, strict=True):
        row[columns] = 1
    missing, found = 1 / has.sum(axis=0), list[int]()
    while missing.any():
        best = int(np.argmax(has @ missing / np.asarray(costs)))
        found.append(best)
        missing[has[best] == 1] = 0
    return found
