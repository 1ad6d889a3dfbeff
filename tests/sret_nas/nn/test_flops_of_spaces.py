"""The closed form against fvcore on networks of every shipped space, at several image sizes.

Sizes are small, since a trace costs time by the pixel, and odd, so that groups do not divide tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import OPERATORS, attended_pairs, cost_of
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.nn.flops import TracedCost
from sret_nas.space.search_space import SearchSpace, shipped_spaces

NETWORKS = 200
"""Of each space. A term that is wrong for one network in twenty escapes a hundred draws once in 170 times."""
CHUNKS = 4
"""Parts of each space's networks, so that several processes can share the test."""
IMAGE_SIZES = (24, 33, 40, 47, 56, 64, 71, 80)


@cache
def random_networks(name: str) -> list[ArchConfig]:
    """Returns `NETWORKS` different networks, from the cheapest to the most expensive, each with its own image size.

    As many are drawn from each stratum of cost. Uniform draws are mostly of many recursions, and take longer to trace.
    """
    space, rng = SearchSpace.load(name), np.random.default_rng(0)
    found: dict[str, ArchConfig] = {}
    sizes = (*IMAGE_SIZES, *range(90, 160, 4)) if space.num_networks < NETWORKS else IMAGE_SIZES
    sampler = StratifiedSampler(space, Budget())
    while len(found) < NETWORKS:
        for arch in sampler.sample_many(rng, NETWORKS):
            small = arch.model_copy(update={"image_size": int(rng.choice(sizes)), "classes": 10})
            found[small.arch_id] = small
    return list(found.values())[:NETWORKS]


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("name", list(shipped_spaces()))
def test_the_closed_form_is_fvcore_s_count(
    name: str, chunk: int, traced_cost: Callable[[ArchConfig], TracedCost]
) -> None:
    torch.set_num_threads(1)
    for arch in random_networks(name)[chunk::CHUNKS]:
        cost, traced = cost_of(arch), traced_cost(arch)
        assert cost.params == traced.params, arch
        by_operator = {operator: traced.flops_by_operator.get(operator, 0) for operator in OPERATORS}
        assert cost.flops_by_operator() == by_operator, arch
        assert cost.flops == traced.flops, arch


@pytest.mark.parametrize("name", list(shipped_spaces()))
def test_many_of_these_networks_have_slices_of_unequal_length(name: str) -> None:
    uneven = [
        any(
            groups < tokens and tokens % groups
            for stage, tokens in zip(arch.stages, arch.num_tokens, strict=True)
            for groups in stage.groups[: stage.recursions]
        )
        for arch in random_networks(name)
    ]
    assert sum(uneven) > NETWORKS // 20


def test_unequal_slices_cost_their_own_squares() -> None:
    """49 tokens in 4 groups are slices of 13, 12, 12 and 12."""
    assert attended_pairs(49, 4) == 13**2 + 3 * 12**2
