"""Networks next to others: they differ in one choice of one stage, or in what all stages have in common."""

from __future__ import annotations

import numpy as np

from sret_nas.arrays import IntArray
from sret_nas.optimize.dynamic_program import Bounds
from sret_nas.space.chain import Chain


class Neighbours:
    """Draws points of a chain that differ from given ones in one attribute of one stage, inside bounds.

    The stage keeps its state, so that the links fit. Where no choice of a state differs in a single attribute, any
    other choice of the state is taken. What all choices have in common is changed in all stages at once.
    """

    def __init__(self, chain: Chain, bounds: Bounds) -> None:
        self._chain = chain
        self._low, self._high = np.array(bounds, dtype=float).T
        self._choices: dict[tuple[int, int], IntArray] = {}

    def draw(self, points: IntArray, number: int, rng: np.random.Generator) -> IntArray:
        """Returns about `number` neighbours of points (n, stages) or fewer, shape (m, stages); some may be equal."""
        if len(points) == 0:
            return points
        varied = np.repeat(points, -(-number // len(points)), axis=0)
        num_stages, common = len(self._chain.stages), self._chain.common
        stages = rng.integers(num_stages + (common is not None), size=len(varied))
        picks = rng.random(len(varied))
        for row, (stage, pick) in enumerate(zip(stages.tolist(), picks.tolist(), strict=True)):
            if stage < num_stages:
                choices = self._others(stage, int(varied[row, stage]))
                if len(choices):
                    varied[row, stage] = choices[int(pick * len(choices))]
            elif common is not None:
                others = np.setdiff1d(common.turned[0][varied[row, 0]], varied[row, 0])
                level = int(np.flatnonzero(common.turned[0][varied[row, 0]] == others[int(pick * len(others))])[0])
                varied[row] = common.with_level(varied[row, None], level)[0]
        costs = self._chain.costs(varied)
        inside: IntArray = varied[((costs >= self._low) & (costs <= self._high)).all(axis=1)]
        return inside

    def _others(self, stage_index: int, choice: int) -> IntArray:
        """Returns the choices that may replace a choice of a stage."""
        key = stage_index, choice
        if key not in self._choices:
            stage = self._chain.stages[stage_index]
            differing = (stage.levels != stage.levels[choice]).sum(axis=1)
            is_alike = stage.state == stage.state[choice]
            near = np.flatnonzero(is_alike & (differing == 1))
            self._choices[key] = near if len(near) else np.flatnonzero(is_alike & (differing > 0))
        return self._choices[key]
