"""Supernets with random weights, and networks of them, for tests of what they compute."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.nn.supernet import Supernet
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape
from tests.counted_spaces import space_of

SHIPPED = ("smoke", "paper_ablations", "sret_tiny", "sret_small")
DAILY_OR_SLOW = ("smoke", *(pytest.param(name, marks=pytest.mark.slow) for name in SHIPPED[1:]))
"""Small supernets daily, where large ones take seconds. The small spaces of these tests have all that these have."""
SMALL = space_of(
    {"width": [8, 12, 16], "heads": [2], "blocks": [1, 2], "recursions": [1, 2, 3], "groups": [[4, 2]],
     "loop": ["internal", "external"], "nll": ["every", "last"], "nll_ratio": [0.5, 1.0], "mlp_ratio": [1.0, 2.0]},
    {"width": [12, 16, 20], "heads": [2], "recursions": [1, 2], "groups": [[3, 2]], "nll": ["between", "none"]},
    image_size=40, drop_path=0.2,
)  # fmt: skip


def resized(arch: ArchConfig, image_size: int) -> ArchConfig:
    return arch.model_copy(update={"image_size": image_size, "classes": 10})


@cache
def randomised(space: SearchSpace, image_size: int) -> Supernet:
    """Returns a supernet with all weights random: a weight of 0 or 1 could be left out unnoticed."""
    torch.manual_seed(0)
    supernet = Supernet(bounding_shape(space, adapted=lambda arch: resized(arch, image_size)))
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            is_gain = "norm" in name and name.endswith("weight")
            if is_gain or name.endswith("coefficients"):
                parameter.uniform_(0.7, 1.3)
            elif parameter.ndim < 2:
                parameter.uniform_(-0.5, 0.5)
            else:
                parameter.normal_(std=0.1)
    return supernet


def drawn(space: SearchSpace, image_size: int, seed: int, number: int) -> list[ArchConfig]:
    """Returns random networks of a space, the last with fewer recursions, different between stages."""
    rng, of_network = random.Random(seed), random.Random(seed)
    networks = []
    for _ in range(number):
        rows = [rng.randrange(len(table)) for table in space.stage_tables]
        stem = rng.choice(space.stem.stems)
        residual, head = of_network.choice(space.residual), of_network.choice(space.head)
        if head != "average":
            rows[-1] = of_network.choice(space.last_rows(head).tolist())
        networks.append(resized(space.network(rows, stem, residual, head), image_size))
    depths = [rng.randint(1, stage.recursions) for stage in networks[-1].stages]
    return [*networks[:-1], networks[-1].with_max_recursions(depths)]


def images_for(arch: ArchConfig, batch: int = 4, size: int | None = None) -> Tensor:
    size = size or arch.image_size
    return torch.randn(batch, arch.channels, size, size, generator=torch.Generator().manual_seed(7))


def gradients(supernet: Supernet) -> dict[str, Tensor]:
    """Returns the gradient of every parameter that has one, and clears it."""
    found = {name: parameter.grad for name, parameter in supernet.named_parameters() if parameter.grad is not None}
    supernet.zero_grad(set_to_none=True)
    return found


def widths_of(arch: ArchConfig) -> list[int]:
    return [stage.width for stage in arch.stages]
