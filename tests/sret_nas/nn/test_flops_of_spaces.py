"""The closed form against fvcore on networks of every shipped space, at several image sizes.

Sizes are small, since a trace costs time by the pixel, and odd, so that groups do not divide tokens.
"""

from __future__ import annotations

from collections import Counter
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
DRAWS = 4
"""Of which the shallowest network is taken, mostly."""
MIN_TIMES = 5
"""How many of a space's networks have a choice, at least."""
IMAGE_SIZES = (24, 33, 40, 47, 56, 64, 71, 80)


@cache
def random_networks(name: str) -> list[ArchConfig]:
    """Returns `NETWORKS` different networks, each with its own image size.

    A trace takes its time by the block that is run, and what one more block or recursion costs is seen in any network.
    So three of four networks are the shallowest of four draws; the others are as they were drawn.
    """
    space, rng = SearchSpace.load(name), np.random.default_rng(0)
    found: dict[str, ArchConfig] = {}
    sizes = (*IMAGE_SIZES, *range(25, 80, 3)) if space.num_networks < NETWORKS else IMAGE_SIZES
    sampler = StratifiedSampler(space, Budget())
    while len(found) < NETWORKS:
        draws = sampler.sample_many(rng, DRAWS * NETWORKS)
        for start in range(0, len(draws), DRAWS):
            drawn = draws[start : start + DRAWS]
            arch = drawn[0] if start % (4 * DRAWS) == 0 else min(drawn, key=blocks_run)
            small = arch.model_copy(update={"image_size": int(rng.choice(sizes)), "classes": 10})
            found[small.arch_id] = small
    return list(found.values())[:NETWORKS]


def blocks_run(arch: ArchConfig) -> int:
    return sum(stage.blocks * stage.recursions for stage in arch.stages)


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
def test_these_networks_have_every_choice_of_their_space(name: str) -> None:
    space = SearchSpace.load(name)
    whole = {"image_size": space.image_size, "classes": space.classes}
    chosen = [space.encode(arch.model_copy(update=whole)) for arch in random_networks(name)]
    for dimension, choices in space.dimensions().items():
        if dimension != "depth_schedule":
            times = Counter(one[dimension] for one in chosen)
            assert min(times[choice] for choice in choices) >= MIN_TIMES, (dimension, times)


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
