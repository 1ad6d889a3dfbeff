"""Width and sharpness of a basin, on losses whose values are known."""

from __future__ import annotations

import math

import pytest

from trials.report.basin import basin_of, summarise


def line(points: int, span: float, loss: float, curvature: float) -> tuple[list[float | None], float]:
    """Returns a parabola of this smallest loss and second derivative, and the step between its points."""
    half = points // 2
    step = span / half
    return [loss + curvature / 2 * (step * index) ** 2 for index in range(-half, half + 1)], step


def test_a_parabola_has_the_width_and_the_sharpness_of_its_formula() -> None:
    losses, step = line(401, 1.0, loss=0.3, curvature=2.5)
    basin = basin_of(losses, step)
    assert basin is not None
    assert basin.width == pytest.approx(2 * math.sqrt(2 * 0.3 / 2.5), rel=1e-4)
    assert basin.sharpness == pytest.approx(2.5)
    assert not basin.is_wider


def test_a_basin_that_leaves_the_line_is_at_least_as_wide_as_the_line() -> None:
    losses, step = line(11, 1.0, loss=0.3, curvature=0.1)
    basin = basin_of(losses, step)
    assert basin is not None
    assert (basin.width, basin.is_wider) == (2.0, True)


def test_both_sides_count_and_the_first_crossing_of_each() -> None:
    basin = basin_of([1.0, 5.0, 1.5, 1.0, 1.0, 3.0, 1.0], 0.5)
    assert basin is not None
    # left: from 1.5 to 5.0 the loss reaches 2 after a seventh of a step; right: after one and a half steps
    assert basin.width == pytest.approx(0.5 * (1 + 0.5 / 3.5 + 1.5))
    assert not basin.is_wider


def test_a_loss_that_is_not_finite_ends_the_basin() -> None:
    basin = basin_of([None, 1.0, 1.0, 1.2, None], 1.0)
    assert basin is not None
    assert (basin.width, basin.is_wider) == (2.0, False)
    beside = basin_of([1.0, None, 1.0, 1.2, 1.5], 1.0)
    assert beside is not None
    assert beside.sharpness is None


@pytest.mark.parametrize("centre", [None, 0.0])
def test_a_network_without_a_loss_to_double_has_no_basin(centre: float | None) -> None:
    assert basin_of([1.0, centre, 1.0], 1.0) is None
    assert summarise([[[1.0, centre, 1.0]]], 1.0) is None


def test_pairs_are_averaged_and_their_deviation_is_stated() -> None:
    pairs = []
    for curvatures in ((2.0, 4.0), (6.0, 8.0)):
        pairs.append([line(201, 2.0, 0.5, curvature)[0] for curvature in curvatures])
    summary = summarise(pairs, 2.0 / 100)
    assert summary is not None
    assert summary.sharpness == pytest.approx((3.0, 7.0))
    values = summary.to_dict()
    assert values["mean_sharpness"] == pytest.approx(5.0)
    assert values["std_sharpness"] == pytest.approx(math.sqrt(8))
    assert values["mean_width"] == pytest.approx(sum(2 * math.sqrt(1 / c) for c in (2, 4, 6, 8)) / 4, rel=1e-3)
    single = summarise(pairs[:1], 0.02)
    assert single is not None
    assert single.to_dict()["std_width"] is None
