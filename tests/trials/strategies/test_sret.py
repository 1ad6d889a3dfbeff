"""The space of networks as strategies see it: points and their values."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from sret_nas.arch.budget import Budget
from sret_nas.space.search_space import SearchSpace
from trials.strategies.sret import SReTDomain

SCHEDULES = [["full", "joint"], ["joint"], ["joint", "sandwich"], ["sandwich", "growing"], ["growing", "full"]]


def domain_with(schedules: list[str]) -> SReTDomain:
    """Returns `sret_tiny` with some schedules. Networks without recursion have `full` all the same."""
    content = {**SearchSpace.load("sret_tiny").to_dict(), "depth_schedules": schedules}
    return SReTDomain(SearchSpace.from_dict(content, "sret_tiny"), Budget())


@pytest.mark.parametrize("schedules", SCHEDULES)
def test_every_candidate_has_values_of_the_dimensions_which_lead_back_to_it(schedules: list[str]) -> None:
    domain = domain_with(schedules)
    rng = np.random.default_rng(0)
    for candidate in [*islice(domain, 40), *(domain.draw(rng) for _ in range(100))]:
        values = domain.encode(candidate)
        assert all(values[name] in listed for name, listed in domain.dimensions.items())
        assert domain.decode(values) == candidate


def test_a_start_has_wide_stages_and_all_costs_under_a_tight_budget() -> None:
    """Of draws that are stratified by cost alone, hardly any have a first stage wider than the narrowest."""
    space = SearchSpace.load("sret_tiny").model_copy(update={"image_size": 32, "classes": 10})
    domain = SReTDomain(space, Budget(flops_max=3_500_000))
    wide, costs, narrow = Counter[int](), list[float](), 0
    for seed in range(4):
        start = domain.draw_start(np.random.default_rng(seed), 12, "flops")
        wide.update(candidate.arch.stages[0].width for candidate in start)
        costs += [domain.costs(candidate)[0] for candidate in start]
        stratified = domain.draw_stratified(np.random.default_rng(seed), 12, "flops")
        narrow += sum(candidate.arch.stages[0].width == 32 for candidate in stratified)
        assert all(domain.excess(candidate) == 0 for candidate in start)
        assert start == domain.draw_start(np.random.default_rng(seed), 12, "flops")
    assert narrow >= 44
    assert min(wide[width] for width in (48, 64)) >= 5
    assert np.quantile(costs, 0.1) < 1.6e6 < 3e6 < np.quantile(costs, 0.9)
