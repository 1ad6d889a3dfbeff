"""A chain's halves and their trees of boxes, against enumeration."""

from __future__ import annotations

import numpy as np
import pytest

from sret_nas.optimize.meet_in_the_middle import FAN_OUT, BoundingBoxTree, ChainHalves, children_of
from tests.sret_nas.optimize.test_branch_and_bound import CHAINS, enumerated


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("sort_axis", [0, 1])
def test_both_ends_of_every_cost_are_those_of_the_networks(name: str, sort_axis: int) -> None:
    everything = enumerated(name)
    pairs = ChainHalves(everything.chain, sort_axis).pairs
    least = np.min([left.least_costs + right.least_costs for left, right in pairs], axis=0)
    most = np.max([left.most_costs + right.most_costs for left, right in pairs], axis=0)
    assert least.tolist() == everything.costs.min(axis=0).tolist()
    assert most.tolist() == everything.costs.max(axis=0).tolist()


@pytest.mark.parametrize("name", CHAINS)
def test_networks_that_cost_the_same_in_every_stage_lie_on_the_same_paths(name: str) -> None:
    everything = enumerated(name)
    cells = [
        np.unique(np.column_stack([stage.state, stage.costs]), axis=0, return_inverse=True)[1].ravel()[choices]
        for stage, choices in zip(everything.chain.stages, everything.points.T, strict=True)
    ]
    pairs = ChainHalves(everything.chain, 0).pairs
    num_joined = sum(left.num_paths * right.num_paths for left, right in pairs)
    assert num_joined == len(np.unique(np.column_stack(cells), axis=0)) <= len(everything.points)


@pytest.mark.parametrize("number", [1, FAN_OUT, 1000])
def test_a_box_holds_its_children_tightly_and_the_least_sum_is_found_in_it(number: int) -> None:
    rng = np.random.default_rng(0)
    costs, sums = rng.integers(10**6, size=(2, number)).astype(float), rng.normal(size=number)
    tree = BoundingBoxTree(costs, 0)
    assert set(tree.row.tolist()) == set(range(number))
    assert (tree.low[0] == costs[:, tree.row]).all()
    least, position = tree.minima(sums)
    assert (sums[tree.row[position[-1][least[-1].argmin()]]], least[-1].min()) == (sums.min(), sums.min())
    for level in range(1, len(tree.low)):
        num_parents = tree.low[level - 1].shape[1] // FAN_OUT
        for node in range(num_parents):
            children = children_of(np.array([node]))
            assert (tree.low[level][:, node] == tree.low[level - 1][:, children].min(axis=1)).all()
            assert (tree.high[level][:, node] == tree.high[level - 1][:, children].max(axis=1)).all()
            assert least[level][node] == least[level - 1][children].min()
            assert least[level][node] == least[0][position[level][node]]
        assert (least[level][num_parents:] == np.inf).all()
