"""A bound on the FLOPs at the shallowest depth holds in whatever proposes networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.arrays import FloatArray
from sret_nas.errors import UserError
from sret_nas.latency.table import LatencyTable
from sret_nas.optimize.branch_and_bound import ProvenOptima
from sret_nas.optimize.dynamic_program import AdditiveScore, CostBuckets, ParetoDP
from tests.counted_spaces import FOUR_STAGES
from tests.latency_profiles import SMALL, pretended_profile
from tests.trials.planted_search import write_search
from trials.runs.options import SearchOptions
from trials.runs.pick import pick_network
from trials.search.enqueue import enqueued_candidates
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate

BOUND = 540_000
BUDGET = Budget(flops_max=700_000, shallowest_flops_max=BOUND)
DOMAIN = SReTDomain(FOUR_STAGES, BUDGET)
WHOLE = SReTDomain(FOUR_STAGES, Budget(flops_max=700_000))


def shallowest(candidate: Candidate) -> int:
    return cost_of(candidate.arch.with_max_recursions(1)).flops


@pytest.mark.slow
def test_the_domain_holds_the_networks_within_the_bound() -> None:
    candidates = list(DOMAIN)
    expected = [candidate.key for candidate in WHOLE if shallowest(candidate) <= BOUND]
    assert 100 < len(expected) < 0.9 * len(list(WHOLE))
    assert sorted(candidate.key for candidate in candidates) == sorted(expected)
    assert DOMAIN.chain.cost_names == ("flops", "params", "shallowest_flops")
    assert DOMAIN.bounds == ((0, 700_000), (0, float("inf")), (0, BOUND))
    points = [DOMAIN.point(candidate) for candidate in candidates]
    assert DOMAIN.chain.costs(points).tolist() == [list(DOMAIN.costs(candidate)) for candidate in candidates]
    assert [shallowest(candidate) for candidate in candidates] == DOMAIN.chain.costs(points)[:, 2].tolist()
    for by in DOMAIN.chain.cost_names:
        drawn = DOMAIN.draw_stratified(np.random.default_rng(0), 20, by)
        assert max(map(shallowest, drawn)) <= BOUND
    dear = max(WHOLE, key=shallowest)
    assert DOMAIN.excess(dear) == shallowest(dear) / BOUND - 1


@pytest.mark.slow
def test_the_best_network_within_the_bound_is_found_exactly() -> None:
    rng, chain = np.random.default_rng(3), DOMAIN.chain
    points = np.array([DOMAIN.point(candidate) for candidate in WHOLE])
    costs = chain.costs(points)
    inside = (costs[:, 0] <= 700_000) & (costs[:, 2] <= BOUND)

    def flat(costs: FloatArray) -> FloatArray:
        return np.zeros(len(costs))

    for _ in range(5):
        score = AdditiveScore(
            tuple(rng.normal(size=len(stage)) for stage in chain.stages),
            tuple(
                rng.normal(size=(len(before.states), len(after)))
                for before, after in zip(chain.stages, chain.stages[1:], strict=False)
            ),
            flat,
        )
        least = score.of(chain, points)[inside].min()
        found = ParetoDP(chain, DOMAIN.bounds, CostBuckets((0, 2), (0.0, 0.0))).find(score)
        assert score.of(chain, found).min() == pytest.approx(least)
        assert (chain.costs(found)[:, 2] <= BOUND).all()
        proven = ProvenOptima(chain).front(score, DOMAIN.bounds, ("flops",))
        assert score.of(chain, proven).min() == pytest.approx(least)


@pytest.mark.slow
def test_it_holds_beside_a_bound_on_latency() -> None:
    table = LatencyTable(SMALL, pretended_profile(SMALL))
    every = list(SReTDomain(SMALL, Budget(), table))
    latency = sorted(int(table.latency(candidate.arch)) for candidate in every)[len(every) // 2]
    bound = sorted(map(shallowest, every))[len(every) // 2]
    domain = SReTDomain(SMALL, Budget(shallowest_flops_max=bound), table, latency)
    expected = [c.key for c in every if shallowest(c) <= bound and table.latency(c.arch) <= latency]
    assert 0 < len(expected) < len(every)
    assert sorted(candidate.key for candidate in domain) == sorted(expected)
    assert domain.chain.cost_names == ("flops", "params", "latency", "shallowest_flops")
    rng = np.random.default_rng(0)
    drawn = [domain.draw(rng) for _ in range(30)] + domain.draw_stratified(rng, 10, "latency")
    assert {candidate.key for candidate in drawn} <= set(expected)


def test_enqueued_networks_keep_to_it() -> None:
    dear = max(WHOLE, key=shallowest)
    options = SearchOptions.parse(
        {"flops_budget": 700_000, "shallowest_flops_budget": BOUND, "enqueue": [dear.arch.to_dict()]}, "test"
    )
    with pytest.raises(UserError, match=r"outside the budget: .*FLOPs at the shallowest depth at most 540K"):
        enqueued_candidates(DOMAIN, options)


@pytest.mark.slow
def test_picked_networks_keep_to_it(tmp_path: Path) -> None:
    found = write_search(tmp_path / "bounded", shallowest_flops_budget=BOUND)
    free = write_search(tmp_path / "free")
    limits = [550_000, 600_000, 700_000, 850_000]
    picked = {
        search.run_dir.name: [pick_network(search, Budget(flops_max=limit)).candidate for limit in limits]
        for search in (found, free)
    }
    assert max(map(shallowest, picked["bounded"])) <= BOUND < max(map(shallowest, picked["free"]))
    costs = [cost_of(candidate.arch).flops for candidate in picked["bounded"]]
    assert all(cost <= limit for cost, limit in zip(costs, limits, strict=True))
