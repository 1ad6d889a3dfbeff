"""Ordinal effects: slopes over the levels of an attribute, such as a width or a ratio.

A slope is learned from fewer labels than one effect per level. Levels are taken in the order in which they are listed,
which for numbers is mostly ascending. If the order of an attribute means nothing, its slope gets no weight. Every level
also keeps an effect of its own (`sret_nas.surrogate.features`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain

StageAttribute = tuple[int, int]
"""Position of a stage, and of one of its attributes."""

MIN_LEVELS = 3
"""Fewest levels for a slope; the effects of two levels are one already."""


def centred_levels(levels: IntArray, num_levels: int) -> FloatArray:
    """Standardises levels such that 0, ..., `num_levels` - 1 have mean 0 and variance 1."""
    standardised: FloatArray = (levels - (num_levels - 1) / 2) / ((num_levels**2 - 1) / 12) ** 0.5
    return standardised


class OrdinalEffects:
    """The feature columns of slopes.

    There is one column per attribute that several stages share, one per attribute of each stage, and one per product of
    an attribute with an attribute of the state of the stage before.
    """

    def __init__(
        self,
        chain: Chain,
        stages_with: Mapping[str, Sequence[StageAttribute]],
        add: Callable[[str, int], int],
        *,
        has_pairs: bool,
    ) -> None:
        """Reserves the columns.

        Args:
            chain: The chain of the points.
            stages_with: The stages that have each attribute.
            add: Reserves columns for a group of effects, given its name and their number, and returns the first.
            has_pairs: Whether there are products.
        """
        self._chain = chain
        self._state_levels = [chain.levels_of_states(stage_index) for stage_index in range(len(chain.stages))]
        with_slopes = {
            name: [(s, c) for s, c in stage_attributes if chain.stages[s].num_levels[c] >= MIN_LEVELS]
            for name, stage_attributes in stages_with.items()
        }
        self._shared = {
            name: add(f"shared slope {name}", 1)
            for name, stage_attributes in with_slopes.items()
            if len(stage_attributes) > 1
        }
        self._own = {
            stage_attribute: add(f"slope {name}", 1)
            for name, stage_attributes in with_slopes.items()
            for stage_attribute in stage_attributes
        }
        self._across = {
            (s, c, state_attribute): add("slopes across", 1)
            for s, c in sorted(self._own)
            for state_attribute, width in enumerate(self._num_state_levels(s))
            if width > 1 and has_pairs
        }

    def _num_state_levels(self, stage_index: int) -> list[int]:
        """Counts the levels of each attribute of the states before a stage."""
        return [] if stage_index == 0 else [int(column.max()) + 1 for column in self._state_levels[stage_index - 1].T]

    def columns(self, stage_index: int, choices: IntArray) -> list[tuple[int, FloatArray]]:
        """Returns the columns that the choices of a stage set alone, with their values of shape (choices,)."""
        columns = []
        for (s, c), column in self._own.items():
            if s == stage_index:
                centred = self._centred(s, c, choices)
                columns.append((column, centred))
                name = self._chain.stages[s].attributes[c]
                if name in self._shared:
                    columns.append((self._shared[name], centred))
        return columns

    def columns_across(self, stage_index: int, choices: IntArray) -> list[tuple[int, FloatArray, FloatArray]]:
        """Returns the columns that choices set together with the state before.

        Each comes with the factors of the states before, of shape (states,), and of the choices, of shape (choices,).
        """
        columns = []
        for (s, c, state_attribute), column in self._across.items():
            if s == stage_index:
                before = centred_levels(
                    self._state_levels[s - 1][:, state_attribute], self._num_state_levels(s)[state_attribute]
                )
                columns.append((column, before, self._centred(s, c, choices)))
        return columns

    def _centred(self, stage_index: int, attribute: int, choices: IntArray) -> FloatArray:
        """Returns the standardised levels of choices in an attribute."""
        stage = self._chain.stages[stage_index]
        return centred_levels(stage.levels[choices, attribute], stage.num_levels[attribute])
