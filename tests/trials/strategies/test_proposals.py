"""What the additive strategy chooses among: neighbours, the best points of scores, members of a table."""

from __future__ import annotations

import numpy as np
import pytest

from sret_nas import Budget
from sret_nas.space.chain import Chain, ChainStage
from sret_nas.surrogate.ensemble import Ensemble
from tests.counted_spaces import RESIDUALS, shipped
from trials.strategies.candidates import CandidatePool
from trials.strategies.conformance import table
from trials.strategies.neighbours import Neighbours
from trials.strategies.proposals import TableProposals
from trials.strategies.sret import SReTDomain

DOMAIN = SReTDomain(shipped("sret_tiny"), Budget(flops_max=1_000_000_000))


def test_neighbours_differ_in_one_attribute_of_one_stage_and_stay_inside_the_budget() -> None:
    point = np.array([DOMAIN.point(DOMAIN.draw(np.random.default_rng(0)))])
    near = Neighbours(DOMAIN.chain, DOMAIN.bounds).draw(point, 200, np.random.default_rng(0))
    levels = np.concatenate([stage.levels[near[:, at]] for at, stage in enumerate(DOMAIN.chain.stages)], axis=1)
    own = np.concatenate([stage.levels[point[:, at]] for at, stage in enumerate(DOMAIN.chain.stages)], axis=1)
    assert len(np.unique(near, axis=0)) > 20
    assert (levels != own).sum(axis=1).max() == 1
    assert all(DOMAIN.excess(DOMAIN.candidate(tuple(row))) == 0 for row in near.tolist())


def test_what_all_stages_have_in_common_is_changed_in_all_of_them() -> None:
    domain = SReTDomain(RESIDUALS, Budget())
    candidate = domain.draw(np.random.default_rng(0))
    near = Neighbours(domain.chain, domain.bounds).draw(
        np.array([domain.point(candidate)]), 300, np.random.default_rng(0)
    )  # fmt: skip
    found = {domain.candidate(tuple(point)).arch.arch_id for point in near.tolist()}
    others = [one for one in RESIDUALS.residual if one != candidate.arch.residual]
    assert {candidate.arch.model_copy(update={"residual": other}).arch_id for other in others} <= found
    encoded = [domain.encode(domain.candidate(tuple(point))) for point in near.tolist()]
    own = domain.encode(candidate)
    assert max(sum(values[name] != own[name] for name in own) for values in encoded) == 1
    most = domain.costs(candidate)[1]
    bounded = Neighbours(domain.chain, ((0, np.inf), (0, most))).draw(near[:5], 200, np.random.default_rng(1))
    assert 0 < len(bounded) < 200
    assert domain.chain.costs(bounded)[:, 1].max() <= most


def test_a_stage_whose_choices_all_differ_in_more_takes_any_of_the_same_state() -> None:
    stage = ChainStage(np.array([0, 0, 0, 1]), np.ones((4, 1), dtype=np.int64), ("a", "b"), np.eye(4, 2, dtype=int) * 2)
    levels = np.array([[0, 0], [1, 1], [2, 2], [0, 1]])
    chain = Chain(("cost",), (ChainStage(stage.state, stage.costs, ("a", "b"), levels),), ())
    near = Neighbours(chain, ((0, 9),)).draw(np.array([[0]]), 50, np.random.default_rng(0))
    assert set(near[:, 0].tolist()) == {1, 2}
    assert Neighbours(chain, ((2, 9),)).draw(np.array([[0]]), 50, np.random.default_rng(0)).tolist() == []
    assert len(Neighbours(chain, ((0, 9),)).draw(np.empty((0, 1), dtype=int), 5, np.random.default_rng(0))) == 0


@pytest.mark.slow
def test_of_a_table_all_members_are_found_that_are_not_known() -> None:
    results = table()
    ensemble = Ensemble(results.chain, (0,))
    proposals = TableProposals(CandidatePool(results, 0), ensemble)
    known = {results.point(member) for member in results.members[:7]}
    nothing = np.empty((0, len(results.chain.stages)), dtype=np.int64)
    found = proposals.find([], nothing, known, 0, is_flat=False)
    keys = {proposals.candidate(tuple(point)).key for point in found.points.tolist()}
    assert keys == {member.key for member in results.members[7:]}
    assert found.costs.tolist() == results.chain.costs(found.points).astype(float).tolist()
