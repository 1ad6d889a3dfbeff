"""Names and shapes of weights, against those of built networks."""

from __future__ import annotations

from itertools import chain

import pytest
import torch

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.presets import PRESETS
from sret_nas.nn.network import SReT
from sret_nas.nn.shared_weights import pool_shapes
from sret_nas.nn.supernet import Supernet
from sret_nas.nn.weight_shapes import network_shapes, supernet_shapes
from sret_nas.nn.weights import on_meta_device
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape
from tests.counted_spaces import HEADS, PATCHES, RESIDUALS, STEMS, VARIED, shipped


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("name", PRESETS)
def test_of_presets(name: str) -> None:
    arch = PRESETS[name]
    assert list(network_shapes(arch)) == list(shapes_of(on_meta_device(lambda: SReT(arch))).items())


@pytest.mark.parametrize("nll", ["every", "between", "last", "none"])
def test_of_every_placement_of_nlls(nll: str) -> None:
    stage = {"width": 6, "heads": 2, "blocks": 2, "recursions": 3, "groups": [1, 2, 3], "nll": nll, "nll_ratio": 0.5}
    arch = ArchConfig.from_dict({"stages": [stage, stage | {"width": 8}], "image_size": 16, "channels": 1})
    assert list(network_shapes(arch)) == list(shapes_of(on_meta_device(lambda: SReT(arch))).items())


@pytest.mark.parametrize("name", ["smoke", "sret_tiny", "sret_small", "paper_ablations"])
def test_of_supernets(name: str) -> None:
    shape = bounding_shape(shipped(name))
    found = dict(chain(supernet_shapes(shape), pool_shapes(shape, "extent")))
    assert found == shapes_of(on_meta_device(lambda: Supernet(shape)))


@pytest.mark.parametrize("space", [STEMS, RESIDUALS, HEADS, VARIED, PATCHES])
def test_of_supernets_with_variants(space: SearchSpace) -> None:
    shape = bounding_shape(space)
    found = dict(chain(supernet_shapes(shape), pool_shapes(shape, "extent")))
    assert found == shapes_of(on_meta_device(lambda: Supernet(shape)))
