"""How the weights of a new network start."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import nn

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.presets import preset
from sret_nas.nn.initialisation import branch_outputs, initialise_position_embedding
from sret_nas.nn.network import SReT


@pytest.fixture(scope="module")
def network() -> SReT:
    torch.manual_seed(0)
    return SReT(preset("sret_t"))


def test_a_position_embedding_is_small() -> None:
    torch.manual_seed(0)
    embedding = torch.full((1, 64, 14, 14), 9.0)
    initialise_position_embedding(embedding)
    assert abs(embedding.mean().item()) < 1e-3
    assert abs(embedding.std().item() - 0.02) < 1e-3


def test_convolutions_are_he_s(network: SReT) -> None:
    """Those of the stem, of 3 x 3 pixels, before a ReLU; the grouped ones between stages without one."""
    for conv in network.get_submodule("stem.convs").children():
        assert isinstance(conv, nn.Conv2d)
        assert conv.weight.std().item() == pytest.approx(sqrt(2 / (9 * conv.out_channels)), rel=0.05)
        assert not conv.bias.any()
    for pool in network.pools:
        assert pool.weight.std().item() == pytest.approx(sqrt(1 / (9 * pool.in_channels / pool.groups)), rel=0.05)
        assert not pool.bias.any()


def test_patches_are_he_s_without_a_relu() -> None:
    arch = ArchConfig.from_dict({**preset("sret_t").to_dict(), "stem": {"kind": "patch", "strides": [4, 2, 2]}})
    torch.manual_seed(0)
    proj = SReT(arch).stem.proj
    assert proj.weight.std().item() == pytest.approx(sqrt(1 / (16 * 16 * 3)), rel=0.05)
    assert not proj.bias.any()


def test_linear_layers_are_torch_s_but_the_last_of_each_branch_is_smaller(network: SReT) -> None:
    """SReT-T has 10 blocks of two branches each, and 20 NLLs, so that the last layers are divided by sqrt(40)."""
    outputs = {id(layer) for layer in branch_outputs(network)}
    assert len(outputs) == 10 * 2 + 20
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert len(layers) > len(outputs)
    for layer in layers:
        bound = layer.in_features**-0.5
        weights, biases = layer.weight.abs(), layer.bias.abs()
        assert biases.max().item() <= bound
        assert biases.any()
        scaled = bound * (40**-0.5 if id(layer) in outputs else 1)
        assert 0.9 * scaled < weights.max().item() <= scaled * (1 + 1e-6)
        assert weights.mean().item() == pytest.approx(scaled / 2, rel=0.05)


def test_a_seed_gives_the_same_weights(network: SReT) -> None:
    torch.manual_seed(0)
    again = SReT(preset("sret_t")).state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in network.state_dict().items())
