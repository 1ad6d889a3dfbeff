"""The summed-area table against counting by hand."""

from __future__ import annotations

import numpy as np

from sret_nas.feasible.cost_cells import CostCells
from sret_nas.feasible.summed_area_table import SummedAreaTable
from tests.counted_spaces import chi_square_deviation

RNG = np.random.default_rng(0)
CELLS = CostCells.of(RNG.integers(20, 30, size=40), RNG.integers(5, 9, size=40))
TABLE = SummedAreaTable(CELLS)
LOW = np.array([RNG.integers(18, 30, size=200), RNG.integers(4, 9, size=200)])
HIGH = LOW + RNG.integers(-1, 8, size=(2, 200))


def inside(box: int) -> np.ndarray:
    """Returns which cells a closed box of LOW and HIGH holds."""
    is_inside = (CELLS.flops >= LOW[0, box]) & (CELLS.flops <= HIGH[0, box])
    return is_inside & (CELLS.params >= LOW[1, box]) & (CELLS.params <= HIGH[1, box])


def test_boxes_count_the_choices_between_their_closed_bounds() -> None:
    found = TABLE.count(TABLE.box(LOW, HIGH))
    expected = [CELLS.count[inside(box)].sum() for box in range(200)]
    assert found.tolist() == expected
    assert 0.0 in expected
    assert max(expected) > 10


def test_its_size_is_that_of_its_entries() -> None:
    assert SummedAreaTable.size(CELLS) == len(TABLE._below) == (4 + 1) * (len(CELLS) + 1)


def test_cells_of_a_box_are_drawn_by_their_counts() -> None:
    counts = TABLE.count(TABLE.box(LOW, HIGH))
    for box in (int(counts.argmax()), int(np.flatnonzero(counts == 1)[0])):
        low, high = (np.repeat(ends[:, box, None, None], 4000, axis=1) for ends in (LOW, HIGH))
        drawn = TABLE.draw(TABLE.box(low, high), np.random.default_rng(1))
        assert drawn.shape == (4000, 1)
        times = np.bincount(drawn[:, 0], minlength=len(CELLS))
        cells = np.flatnonzero(inside(box))
        assert times.sum() == times[cells].sum()
        if len(cells) > 1:
            assert abs(chi_square_deviation(times[cells], 4000 * CELLS.count[cells] / counts[box])) < 4
