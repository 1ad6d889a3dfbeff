"""Effects that grow with the level: of a width or a ratio, what four levels share is learned from fewer labels.

Levels are taken in the order in which they are listed, as numbers mostly are; where that order means nothing, labels
will give these effects no weight. Every level keeps its own effect beside them (`sret_nas.surrogate.features`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain

Place = tuple[int, int]
"""A stage, and one of its attributes."""

MIN_LEVELS = 3
"""The effects of two levels are a slope already."""


def centred_levels(levels: IntArray, number: int) -> FloatArray:
    """Levels 0 to `number` - 1 as heights, which have mean 0 and variance 1 over all of them."""
    spread: FloatArray = (levels - (number - 1) / 2) / ((number**2 - 1) / 12) ** 0.5
    return spread


class OrdinalEffects:
    """The columns of slopes: of attributes that several stages share, of a stage's own, and products of an attribute
    with one of the state of the stage before."""

    def __init__(
        self, chain: Chain, places: Mapping[str, Sequence[Place]], add: Callable[[str, int], int], *, has_pairs: bool
    ) -> None:
        """`places` has the places of every attribute; `add` reserves columns for a kind and returns the first.

        Without `has_pairs` there are no products.
        """
        self._chain = chain
        self._before = [chain.levels_of_states(number) for number in range(len(chain.stages))]
        steep = {
            name: [(s, c) for s, c in every if chain.stages[s].num_levels[c] >= MIN_LEVELS]
            for name, every in places.items()
        }
        self._shared = {name: add(f"shared slope {name}", 1) for name, every in steep.items() if len(every) > 1}
        self._own = {place: add(f"slope {name}", 1) for name, every in steep.items() for place in every}
        self._across = {
            (s, c, part): add("slopes across", 1)
            for s, c in sorted(self._own)
            for part, width in enumerate(self._widths(s))
            if width > 1 and has_pairs
        }

    def _widths(self, number: int) -> list[int]:
        """How many levels each attribute of the states before a stage has."""
        return [] if number == 0 else [int(column.max()) + 1 for column in self._before[number - 1].T]

    def columns(self, number: int, choices: IntArray) -> list[tuple[int, FloatArray]]:
        """What the choices of a stage set by themselves: columns, and heights of shape (choices,)."""
        found = []
        for (s, c), column in self._own.items():
            if s == number:
                height = self._heights(s, c, choices)
                found.append((column, height))
                name = self._chain.stages[s].attributes[c]
                if name in self._shared:
                    found.append((self._shared[name], height))
        return found

    def columns_across(self, number: int, choices: IntArray) -> list[tuple[int, FloatArray, FloatArray]]:
        """What they set with the state before: columns, heights of all states, and heights of shape (choices,)."""
        found = []
        for (s, c, part), column in self._across.items():
            if s == number:
                before = centred_levels(self._before[s - 1][:, part], self._widths(s)[part])
                found.append((column, before, self._heights(s, c, choices)))
        return found

    def _heights(self, number: int, attribute: int, choices: IntArray) -> FloatArray:
        stage = self._chain.stages[number]
        return centred_levels(stage.levels[choices, attribute], stage.num_levels[attribute])
