from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sret_nas.pareto import hypervolume, non_dominated

INF = float("inf")


def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def by_definition(points: list[tuple[float, ...]]) -> list[bool]:
    return [not any(dominates(other, point) for other in points) for point in points]


def volume_by_cells(points: list[tuple[int, ...]], reference: tuple[int, ...]) -> int:
    """Returns unit cells below the reference, from 0 on, whose lower corner some point is nowhere above."""
    cells = product(*(range(bound) for bound in reference))
    return sum(any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points) for cell in cells)


class TestNonDominated:
    def test_three_points_of_every_kind_exhaustively(self) -> None:
        values = (-INF, 0.0, 1.0, INF)
        for points in product(product(values, repeat=2), repeat=3):
            assert non_dominated(points).tolist() == by_definition(list(points)), points

    def test_three_objectives_exhaustively(self) -> None:
        for points in product(product((0.0, 1.0), repeat=3), repeat=3):
            assert non_dominated(points).tolist() == by_definition(list(points)), points

    @given(st.integers(1, 4).flatmap(lambda m: st.lists(st.tuples(*[st.integers(0, 4)] * m), min_size=1, max_size=30)))
    def test_against_the_definition(self, points: list[tuple[float, ...]]) -> None:
        assert non_dominated(points).tolist() == by_definition(points)

    def test_nothing(self) -> None:
        assert non_dominated(np.zeros((0, 2))).tolist() == []

    def test_nan_is_refused(self) -> None:
        with pytest.raises(ValueError, match="must not hold NaN, got it in row 1"):
            non_dominated([[0.0, 1.0], [0.0, float("nan")]])

    @pytest.mark.parametrize("points", [[1.0, 2.0], np.zeros((3, 0)), 1.0])
    def test_shape_is_checked(self, points: object) -> None:
        with pytest.raises(ValueError, match="shape"):
            non_dominated(points)  # type: ignore[arg-type]


class TestHypervolume:
    @given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=8))
    def test_two_objectives_by_counting_cells(self, points: list[tuple[int, int]]) -> None:
        expected = volume_by_cells(points, (5, 4))
        assert hypervolume(np.array(points).reshape(-1, 2), (5, 4)) == expected

    @given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=8))
    def test_three_objectives_by_counting_cells(self, points: list[tuple[int, int, int]]) -> None:
        expected = volume_by_cells(points, (4, 5, 3))
        assert hypervolume(np.array(points).reshape(-1, 3), (4, 5, 3)) == expected

    def test_unequal_sides(self) -> None:
        """Two overlapping rectangles: 0.75 * 0.5 + 0.25 * 1 - 0.25 * 0.5."""
        assert hypervolume([[0.25, 0.5], [0.75, 0.0]], (1, 1)) == 0.75 * 0.5 + 0.25 * 1.0 - 0.25 * 0.5

    def test_order_ties_and_dominated_points_change_nothing(self) -> None:
        points = np.random.default_rng(0).random((30, 3))
        volume = hypervolume(points, (1, 1, 1))
        assert hypervolume(np.concatenate([points[::-1], points, points + 0.01]), (1, 1, 1)) == pytest.approx(volume)

    def test_points_on_or_beyond_the_reference_add_nothing(self) -> None:
        assert hypervolume([[1.0, 0.0], [0.0, 2.0], [INF, 0.0]], (1, 2)) == 0.0

    def test_minus_infinity_adds_everything(self) -> None:
        assert hypervolume([[-INF, 0.0], [0.5, -1.0]], (1, 2)) == INF

    def test_bad_input(self) -> None:
        with pytest.raises(ValueError, match="NaN"):
            hypervolume([[0.0, float("nan")]], (1, 1))
        with pytest.raises(ValueError, match="reference must be finite"):
            hypervolume([[0.0, 0.0]], (1, INF))
        with pytest.raises(ValueError, match="2 or 3 columns"):
            hypervolume([[0.0, 0.0]], (1, 1, 1))
        with pytest.raises(ValueError, match="2 or 3 columns"):
            hypervolume([[0.0] * 4], (1, 1, 1, 1))
