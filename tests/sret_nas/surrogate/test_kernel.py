"""The covariance of what sums miss: by its formula, pair by pair, and its derivatives by finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from sret_nas.arrays import FloatArray
from sret_nas.space.chain import Chain, ChainStage
from sret_nas.surrogate.kernel import Kernel


def stage(number: int) -> ChainStage:
    levels = np.arange(number)
    return ChainStage(np.zeros(number, dtype=np.int64), 1 + levels[:, None], ("a",), levels[:, None])


CHAIN = Chain(("cost",), (stage(3), stage(1), stage(5)), ({(0, 0): (0,)},) * 2)
KERNEL = Kernel(CHAIN)
LOGS = np.log([0.5, 2.0, 0.3, 1.5, 0.7, 4.0])
POINTS = np.array([[0, 0, 0], [0, 0, 4], [1, 0, 2], [2, 0, 0]])


def test_what_does_not_vary_has_no_part() -> None:
    levels = KERNEL.levels(POINTS)
    assert levels.one_hot.shape == (4, 3 + 5)
    assert levels.scaled.tolist() == [[0.0, 0.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    assert len(KERNEL.center) == len(KERNEL.spread) == len(KERNEL.bounds) == len(LOGS)


def test_both_parts_are_those_of_the_formula() -> None:
    levels = KERNEL.levels(POINTS)
    rough, smooth = KERNEL.parts(LOGS, levels, levels.take(np.array([2, 0])))
    for row, point in enumerate(levels.scaled):
        for column, other in enumerate(levels.scaled[[2, 0]]):
            assert rough[row, column] == pytest.approx(0.5 * np.exp(-np.array([0.3, 1.5]) @ (point != other)))
            assert smooth[row, column] == pytest.approx(2.0 * np.exp(-np.array([0.7, 4.0]) @ (point - other) ** 2))
    assert KERNEL.variance(LOGS) == pytest.approx(rough[2, 0] + smooth[2, 0])


def test_derivatives_are_those_of_the_weighted_sum() -> None:
    levels = KERNEL.levels(POINTS)
    factors = np.random.default_rng(0).normal(size=(4, 4))
    factors += factors.T
    rough, smooth = KERNEL.parts(LOGS, levels, levels)

    def total(logs: FloatArray) -> float:
        return float((factors * sum(KERNEL.parts(logs, levels, levels))).sum())

    steps = 1e-5 * np.eye(len(LOGS))
    numeric = [(total(LOGS + step) - total(LOGS - step)) / 2e-5 for step in steps]
    assert KERNEL.gradient(LOGS, levels, factors * rough, factors * smooth) == pytest.approx(numeric, rel=1e-6)
