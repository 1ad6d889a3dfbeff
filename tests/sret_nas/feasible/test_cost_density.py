"""Estimates of how many points of a chain cost how much, against all points of small chains."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from sret_nas.feasible.cost_density import _ExponentialProposal, _log_sum, estimate_counts
from sret_nas.space.chain import Chain, ChainStage, chain_of
from tests.counted_spaces import RESIDUALS, EveryNetwork

RNG = np.random.default_rng(0)


def chain(*choices: int) -> Chain:
    """Returns a chain of random costs with two states a stage, all of them linked."""
    stages = tuple(
        ChainStage(
            state=np.arange(number) % 2 * 8,
            costs=RNG.integers(1, 100, size=(number, 2)),
            attributes=("choice",),
            levels=np.arange(number)[:, None],
        )
        for number in choices
    )
    links = tuple(
        {pair: (int(RNG.integers(50)), int(RNG.integers(50))) for pair in product((0, 8), repeat=2)}
        for _ in choices[1:]
    )
    return Chain(("flops", "params"), stages, links)


CHAIN = chain(6, 5, 7)
POINTS = np.indices([6, 5, 7]).reshape(3, -1).T
COSTS = CHAIN.costs(POINTS)


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (0.05, -0.02), (-0.03, 0.04), (12.0, -9.0)])
def test_points_are_drawn_with_probabilities_that_fall_exponentially_with_their_costs(
    tilt: tuple[float, float],
) -> None:
    proposal = _ExponentialProposal(CHAIN, np.array(tilt))
    logs = -(COSTS @ np.array(tilt))
    total = logs.max() + np.log(np.exp(logs - logs.max()).sum())
    assert proposal.log_total == pytest.approx(total, rel=1e-12)
    drawn = proposal.draw(40_000, np.random.default_rng(1))
    assert drawn.shape == (40_000, 2)
    costs, cell = np.unique(COSTS, axis=0, return_inverse=True)
    probability = np.bincount(cell.ravel(), np.exp(logs - total))
    place = {tuple(row): at for at, row in enumerate(costs.tolist())}
    times = np.bincount([place[tuple(row)] for row in drawn.tolist()], minlength=len(costs))
    deviation = (times - 40_000 * probability) / np.sqrt(np.maximum(40_000 * probability, 1))
    assert np.abs(deviation).max() < 5


def test_logarithms_are_summed_column_by_column_however_far_apart() -> None:
    found = _log_sum(np.array([[0.0, -2000.0, 900.0], [0.0, -2000.0, 900.0]]))
    assert found.tolist() == pytest.approx([np.log(2), np.log(2) - 2000, np.log(2) + 900])


def test_one_stage_alone() -> None:
    alone = chain(9)
    proposal = _ExponentialProposal(alone, np.array([0.01, 0.0]))
    assert proposal.log_total == pytest.approx(np.log(np.exp(-0.01 * alone.stages[0].costs[:, 0]).sum()))
    assert set(map(tuple, proposal.draw(200, np.random.default_rng(0)).tolist())) == set(
        map(tuple, alone.stages[0].costs.tolist())
    )


def test_every_cell_is_counted_without_bias() -> None:
    """A cell holds its lower edge and not its upper one; what lies beyond the edges is in none."""
    edges = tuple(np.unique(np.quantile(costs, [0.01, 0.1, 0.5, 0.9, 0.99], method="nearest")) for costs in COSTS.T)
    expected = np.zeros([len(ends) - 1 for ends in edges])
    for row in COSTS:
        cell = [int(np.searchsorted(ends, cost, side="right")) - 1 for ends, cost in zip(edges, row, strict=True)]
        if all(0 <= at < len(ends) - 1 for at, ends in zip(cell, edges, strict=True)):
            expected[tuple(cell)] += 1
    assert 100 < expected.sum() < len(COSTS)
    found = estimate_counts(CHAIN, (edges[0], edges[1]), 100_000, np.random.default_rng(0))
    assert found.shape == expected.shape
    assert (found[expected == 0] == 0).all()
    np.testing.assert_allclose(found, expected, rtol=0.1, atol=0.05)


def test_few_draws_are_rounded_up_to_one_of_each_kind() -> None:
    edges = (np.array([0, 1000]), np.array([0, 1000]))
    assert estimate_counts(CHAIN, edges, 1, np.random.default_rng(0))[0, 0] > 0


def test_links_that_are_missing_are_never_drawn() -> None:
    """Residual connections are those of all stages, so most pairs of states have no link."""
    chain, every = chain_of(RESIDUALS), EveryNetwork(RESIDUALS)
    proposal = _ExponentialProposal(chain, np.array([1e-6, -1e-3]))
    costs = np.column_stack([every.flops, every.params])
    logs = -(costs @ np.array([1e-6, -1e-3]))
    assert proposal.log_total == pytest.approx(logs.max() + np.log(np.exp(logs - logs.max()).sum()), rel=1e-12)
    drawn = proposal.draw(5_000, np.random.default_rng(1))
    assert set(map(tuple, drawn.tolist())) <= set(map(tuple, costs.tolist()))
    whole = (np.array([0, 10**12]), np.array([0, 10**12]))
    found = estimate_counts(chain, whole, 20_000, np.random.default_rng(0))
    assert found[0, 0] == pytest.approx(RESIDUALS.num_networks, rel=0.02)
