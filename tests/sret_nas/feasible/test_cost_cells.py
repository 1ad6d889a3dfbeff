"""Cells of equal cost against counting by hand: what is merged, what rounding loses, and what is drawn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arrays import IntArray
from sret_nas.feasible.cost_cells import (
    CostCells,
    Layer,
    PrefixCosts,
    StageCosts,
    Window,
    first_above,
    runs_of,
    starts_of_runs,
)
from sret_nas.feasible.overflow import MAX_COST
from tests.counted_spaces import chi_square_deviation

RNG = np.random.default_rng(0)
ITEMS = 80
WIDTH: IntArray = RNG.integers(2, size=ITEMS) * 8 + 8
FLOPS: IntArray = RNG.integers(100, 106, size=ITEMS)
PARAMS: IntArray = RNG.integers(10, 13, size=ITEMS)
LINKS = {(before, after): (before + 2 * after, before // 4) for before in (8, 16) for after in (8, 16)}


class TestWindow:
    def test_bounds_that_are_missing_leave_everything_inside(self) -> None:
        assert Window.of(Budget()) == Window((0, 0), (MAX_COST, MAX_COST))
        budget = Budget(flops_min=1, flops_max=2, params_min=3, params_max=4)
        assert Window.of(budget) == Window((1, 3), (2, 4))

    def test_both_ends_of_both_costs_are_inside(self) -> None:
        costs = np.arange(5)
        assert Window((1, 0), (3, 9)).contains(costs, costs).tolist() == [False, True, True, True, False]
        assert Window((0, 1), (9, 3)).contains(costs, costs).tolist() == [False, True, True, True, False]


class TestCostCells:
    @pytest.mark.parametrize("step", [(1, 1), (2, 1), (1, 2), (4, 3)])
    @pytest.mark.parametrize("spread", [1, 2**15], ids=["close", "far apart"])
    def test_items_of_equal_rounded_cost_are_merged(self, step: tuple[int, int], spread: int) -> None:
        flops, params, weight = FLOPS * spread, PARAMS * spread, np.arange(ITEMS, dtype=np.float64)
        for count in (None, weight):
            cells = CostCells.of(flops, params, count, step)
            expected: dict[tuple[int, int], list[int]] = {}
            for item, cost in enumerate(zip(flops // step[0] * step[0], params // step[1] * step[1], strict=True)):
                expected.setdefault((int(cost[0]), int(cost[1])), []).append(item)
            assert list(zip(cells.flops.tolist(), cells.params.tolist(), strict=True)) == sorted(expected)
            assert len(cells) == len(expected)
            for cell, (_, items) in enumerate(sorted(expected.items())):
                assert sorted(cells.members(cell).tolist()) == items
                assert cells.count[cell] == (len(items) if count is None else weight[items].sum())
            assert cells.start[-1] == len(cells.merged) == ITEMS
            assert cells.merged.dtype == np.int32


def assert_cells_are_near(layer: Layer, costs: dict[tuple[int, ...], tuple[int, int, int]]) -> None:
    """Asserts that each cell's members cost as much as it says, or more by the rounding error at most; each is in one
    cell."""
    seen = Counter[tuple[int, ...]]()
    for width, cells in layer.cells.items():
        for cell in range(len(cells)):
            members = list(layer.members(width, cell))
            assert len(members) == cells.count[cell]
            seen.update(members)
            for member in members:
                assert costs[member][0] == width
                for cost in range(2):
                    lost = costs[member][1 + cost] - (cells.flops, cells.params)[cost][cell]
                    assert 0 <= lost <= layer.rounding_error[cost]
    assert seen == Counter(list(costs))


def assert_draws_are_uniform(layer: Layer, num_stages: int) -> None:
    rng = np.random.default_rng(1)
    for width, cells in layer.cells.items():
        largest = int(cells.count.argmax())
        members = list(layer.members(width, largest))
        cell = np.full(200 * len(members), largest)
        drawn = layer.draw(width, cell, rng)
        assert drawn.shape == (len(cell), num_stages)
        times = Counter(map(tuple, drawn.tolist()))
        assert times.keys() == set(members)
        assert abs(chi_square_deviation(np.array(list(times.values())), np.full(len(members), 200.0))) < 4
        every = layer.draw(width, np.arange(len(cells)), rng).tolist()
        assert all(tuple(choices) in set(layer.members(width, at)) for at, choices in enumerate(every))


def stage_costs(scale: int = 1) -> dict[tuple[int, ...], tuple[int, int, int]]:
    rows = zip(WIDTH.tolist(), (FLOPS * scale).tolist(), (PARAMS * scale).tolist(), strict=True)
    return {(choice,): row for choice, row in enumerate(rows)}


class TestStageCosts:
    @pytest.mark.parametrize(("limit", "is_rounded"), [(None, False), (18, False), (7, True), (2, True), (1, True)])
    def test_at_most_so_many_cells_hold_every_choice(self, limit: int | None, is_rounded: bool) -> None:
        layer = StageCosts(WIDTH, FLOPS * 5000, PARAMS * 5000, limit)
        assert list(layer.cells) == [8, 16]
        assert max(map(len, layer.cells.values())) <= (limit or ITEMS)
        assert (layer.rounding_error != (0, 0)) == is_rounded
        assert_cells_are_near(layer, stage_costs(5000))

    def test_it_rounds_no_more_than_it_must(self) -> None:
        """A step is 1/1024 of a cost's range, rounded up; both are doubled where that leaves too many cells."""
        width, flops = np.full(5000, 8), np.arange(5000)
        for params, limit, lost, number in [
            (0 * flops, 5000, (0, 0), 5000), (0 * flops, 4999, (4, 0), 1000), (0 * flops, 1000, (4, 0), 1000),
            (0 * flops, 999, (9, 1), 500), (2 * flops, 1000, (4, 9), 1000),
        ]:  # fmt: skip
            layer = StageCosts(width, flops, params, limit)
            assert (layer.rounding_error, len(layer.cells[8])) == (lost, number)

    def test_choices_of_a_cell_are_drawn_uniformly(self) -> None:
        assert_draws_are_uniform(StageCosts(WIDTH, FLOPS, PARAMS), 1)


class TestPrefixCosts:
    @staticmethod
    def layers(scale: int, limits: tuple[int, int]) -> tuple[Layer, dict[tuple[int, ...], tuple[int, int, int]]]:
        """Returns two stages after a first one, and every prefix by its choices with its width and costs."""
        first = StageCosts(WIDTH, FLOPS * scale, PARAMS * scale)
        second = StageCosts(WIDTH[:10], FLOPS[:10] * scale, PARAMS[:10] * scale)
        third = StageCosts(WIDTH[:4], FLOPS[:4] * scale, PARAMS[:4] * scale)
        layer: Layer = PrefixCosts(PrefixCosts(first, second, LINKS, limits[0]), third, LINKS, limits[1])
        costs = stage_costs(scale)
        for number in (10, 4):
            costs = {
                (*before, choice): (
                    int(WIDTH[choice]),
                    flops + int(FLOPS[choice]) * scale + LINKS[width, int(WIDTH[choice])][0],
                    params + int(PARAMS[choice]) * scale + LINKS[width, int(WIDTH[choice])][1],
                )
                for before, (width, flops, params) in costs.items()
                for choice in range(number)
            }
        return layer, costs

    @pytest.mark.parametrize(
        ("limits", "is_rounded"), [((10**6, 10**6), False), ((20, 10**6), True), ((10**6, 20), True), ((9, 9), True)]
    )
    def test_cells_hold_every_prefix_near_its_cost(self, limits: tuple[int, int], is_rounded: bool) -> None:
        layer, costs = self.layers(3000, limits)
        assert layer.num_stages == 3
        assert max(map(len, layer.cells.values())) <= limits[1]
        assert (layer.rounding_error != (0, 0)) == is_rounded
        assert_cells_are_near(layer, costs)

    def test_prefixes_of_a_cell_are_drawn_uniformly(self) -> None:
        layer, _ = self.layers(1, (10**6, 10**6))
        assert_draws_are_uniform(layer, 3)


def test_runs_of_equal_values() -> None:
    values = np.array([3, 3, 1, 3, 3, 3])
    assert starts_of_runs(values).tolist() == [0, 2, 3]
    assert [(run.start, run.stop) for run in runs_of(values)] == [(0, 2), (2, 3), (3, 6)]
    assert [starts_of_runs(values[:number]).tolist() for number in (0, 1)] == [[], [0]]


@pytest.mark.parametrize("number", [1, 3, 1000])
def test_the_first_value_above_a_target_is_found(number: int) -> None:
    """In ranges of any length, of one position and of many more than are probed at once."""
    rng = np.random.default_rng(number)
    values = np.sort(rng.integers(5000, size=20_000)).astype(np.float64)
    low = rng.integers(15_000, size=(number, 1))
    high = low + rng.integers(5_000, size=(number, 1))
    target = values[low] + rng.integers(-2, 1500, size=(number, 1))
    expected = np.clip(np.searchsorted(values, target, side="right"), low, high)
    assert (first_above(values.take, low, high, target) == expected).all()
