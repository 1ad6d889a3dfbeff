"""The space of networks as strategies see it: points and their values."""

from __future__ import annotations

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
