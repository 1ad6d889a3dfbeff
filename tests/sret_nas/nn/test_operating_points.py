"""A network at every recursion depth that it can run."""

from __future__ import annotations

import random

import pytest
import torch

from sret_nas.nn.network import SReT
from sret_nas.nn.operating_points import all_depths, equal_depths, full_depth, logits_at_depths, num_depths
from tests.architectures import random_arch


@pytest.mark.parametrize("seed", range(6))
def test_shared_passes_give_the_logits_of_separate_ones(seed: int) -> None:
    arch = random_arch(random.Random(seed), max_width=8)
    network = SReT(arch).eval()
    images = torch.randn(2, arch.channels, arch.image_size, arch.image_size)
    depths = all_depths(arch)
    with torch.no_grad():
        found = logits_at_depths(network, images, depths)
        assert set(found) == set(depths)
        for depth in depths[:: max(1, len(depths) // 8)]:
            assert torch.equal(found[depth], network(images, depth))


def test_depths_end_with_the_whole_network() -> None:
    for seed in range(10):
        arch = random_arch(random.Random(seed))
        every, equal = all_depths(arch), equal_depths(arch)
        assert every[-1] == equal[-1] == full_depth(arch)
        assert len(set(every)) == len(every) == num_depths(arch)
        assert equal[0] == every[0] == (1,) * len(arch.stages)
        assert len(equal) == arch.max_recursions


def test_only_the_depths_that_are_asked_for_are_run() -> None:
    arch = random_arch(random.Random(1), max_width=8)
    images = torch.randn(1, arch.channels, arch.image_size, arch.image_size)
    shallow = (1,) * len(arch.stages)
    assert set(logits_at_depths(SReT(arch).eval(), images, [shallow])) == {shallow}
