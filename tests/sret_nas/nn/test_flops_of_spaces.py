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
from sret_nas.space.search_space import shipped_spaces
from tests.counted_spaces import shipped
from tests.covering import pairs, smallest_cover

DRAWS = 1000
"""Networks of each space from which the traced ones are chosen."""
MIN_TIMES = 2
"""How many of the networks have a choice, at least."""
IMAGE_SIZES = (24, 33, 47, 71, 80)
"""They make 3, 5, 6, 9 and 10 tokens a side after three strides of 2."""

Choice = tuple[str, object]
"""A dimension of a space, or the image size, and its value."""


@cache
def drawn_networks(name: str) -> list[tuple[ArchConfig, frozenset[Choice]]]:
    """Returns random networks of a space, each with an image size of its own, and what was chosen for them."""
    space, rng = shipped(name), np.random.default_rng(0)
    found = {}
    for arch in StratifiedSampler(space, Budget()).sample_many(rng, DRAWS):
        chosen = {**space.encode(arch), "image size": int(rng.choice(IMAGE_SIZES))}
        small = arch.model_copy(update={"image_size": chosen["image size"], "classes": 10})
        found[small.arch_id] = small, frozenset(chosen.items())
    return list(found.values())


@cache
def traced_networks() -> dict[str, list[tuple[ArchConfig, frozenset[Choice]]]]:
    """Returns networks, by their space, that together have every pair of choices of all that were drawn.

    A term of the closed form that is wrong for one choice, or for two together, cannot escape them: it does not know of
    spaces, so a pair that a network of one space has need not be tried in another. A trace takes its time by the block
    that is run, so networks with few of them come first.
    """
    drawn = [(name, *one) for name in shipped_spaces() for one in drawn_networks(name)]
    found: dict[str, list[tuple[ArchConfig, frozenset[Choice]]]] = {name: [] for name in shipped_spaces()}
    for index in smallest_cover(
        [list(pairs(chosen)) for _, _, chosen in drawn], [blocks_run(arch) + 2.0 for _, arch, _ in drawn]
    ):
        name, arch, chosen = drawn[index]
        found[name].append((arch, chosen))
    return found


def blocks_run(arch: ArchConfig) -> int:
    return sum(stage.blocks * stage.recursions for stage in arch.stages)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(shipped_spaces()))
def test_the_closed_form_is_fvcore_s_count(name: str, traced_cost: Callable[[ArchConfig], TracedCost]) -> None:
    torch.set_num_threads(1)
    for arch, _ in traced_networks()[name]:
        cost, traced = cost_of(arch), traced_cost(arch)
        assert cost.params == traced.params, arch
        by_operator = {operator: traced.flops_by_operator.get(operator, 0) for operator in OPERATORS}
        assert cost.flops_by_operator() == by_operator, arch
        assert cost.flops == traced.flops, arch


@pytest.mark.slow
@pytest.mark.parametrize("name", list(shipped_spaces()))
def test_these_networks_have_every_choice_of_their_space_and_every_pair_of_them(name: str) -> None:
    traced = [chosen for networks in traced_networks().values() for _, chosen in networks]
    times = Counter(choice for chosen in traced for choice in chosen)
    dimensions = {**shipped(name).dimensions(), "image size": IMAGE_SIZES}
    del dimensions["depth_schedule"]
    for dimension, choices in dimensions.items():
        assert min(times[dimension, choice] for choice in choices) >= MIN_TIMES, dimension
    covered = {pair for chosen in traced for pair in pairs(chosen)}
    assert covered >= {pair for _, chosen in drawn_networks(name) for pair in pairs(chosen)}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(shipped_spaces()))
def test_many_of_these_networks_have_slices_of_unequal_length(name: str) -> None:
    traced = traced_networks()[name]
    uneven = [
        any(
            groups < tokens and tokens % groups
            for stage, tokens in zip(arch.stages, arch.num_tokens, strict=True)
            for groups in stage.groups[: stage.recursions]
        )
        for arch, _ in traced
    ]
    assert sum(uneven) > len(traced) // 20


def test_unequal_slices_cost_their_own_squares() -> None:
    """49 tokens in 4 groups are slices of 13, 12, 12 and 12."""
    assert attended_pairs(49, 4) == 13**2 + 3 * 12**2
