"""Effects of levels that change smoothly from stage to stage.

Where many stages have an attribute, what a level is worth in one of them is like what it is worth in the next. A few
cosines over the depth say so in fewer numbers than one effect for every stage, which each stage keeps besides
(`sret_nas.surrogate.features`). The effect of level l of an attribute in the stage at place p of P, from 0, is

    sum over k = 1, ..., 3 of w_lk cos(pi k (p + 1/2) / P) / k

with weights w of one prior variance, so that slow changes are likelier than fast ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain

from .ordinal_effects import StageAttribute

MIN_STAGES = 5
"""Fewest stages with an attribute; in fewer, so many cosines could say anything of every stage."""

COSINES = 3


class DepthEffects:
    """The feature columns of effects that change smoothly with depth: one per level and cosine of an attribute."""

    def __init__(
        self, chain: Chain, stages_with: Mapping[str, Sequence[StageAttribute]], add: Callable[[str, int], int]
    ) -> None:
        """Reserves the columns.

        Args:
            chain: The chain of the points.
            stages_with: The stages that have each attribute.
            add: Reserves columns for a group of effects, given its name and their number, and returns the first.
        """
        self._chain = chain
        self._columns: dict[StageAttribute, tuple[int, FloatArray]] = {}
        for name, stage_attributes in stages_with.items():
            if len(stage_attributes) < MIN_STAGES:
                continue
            start = add(f"by depth {name}", COSINES * max(chain.stages[s].num_levels[c] for s, c in stage_attributes))
            for place, stage_attribute in enumerate(stage_attributes):
                self._columns[stage_attribute] = start, _cosines(place, len(stage_attributes))

    def columns(self, stage_index: int, choices: IntArray) -> list[tuple[IntArray, FloatArray]]:
        """Returns the columns that the choices of a stage set, with their values; each of shape (choices,)."""
        columns = []
        for (s, c), (start, cosines) in self._columns.items():
            if s == stage_index:
                first = start + self._chain.stages[s].levels[choices, c] * COSINES
                columns += [(first + k, np.full(len(choices), cosine)) for k, cosine in enumerate(cosines)]
        return columns


def _cosines(place: int, number: int) -> FloatArray:
    """Returns the values at one of a number of places, shape (COSINES,)."""
    frequencies = np.arange(1, COSINES + 1)
    values: FloatArray = np.cos(np.pi * frequencies * (place + 0.5) / number) / frequencies
    return values
