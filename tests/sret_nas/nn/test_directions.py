"""Filter-normalised directions: norms, stillness, seeds, and the return to the origin."""

from __future__ import annotations

import copy

import pytest
import torch

from sret_nas.arch.config import ArchConfig
from sret_nas.nn.directions import MovableNetwork, filter_normalised_direction
from sret_nas.nn.network import SReT

ARCH = ArchConfig.from_dict(
    {
        "stages": [{"width": 8, "heads": 2, "blocks": 2, "recursions": 3, "groups": [2, 2, 1]}],
        "image_size": 16,
        "channels": 1,
        "classes": 3,
    }
)


@pytest.fixture
def network() -> SReT:
    torch.manual_seed(0)
    return SReT(ARCH).eval()


def test_every_filter_of_a_direction_has_the_norm_of_the_weights(network: SReT) -> None:
    direction = filter_normalised_direction(network, "a")
    for name, weight in network.named_parameters():
        if weight.ndim < 2:
            assert name not in direction
            continue
        norms = weight.detach().flatten(1).norm(dim=1)
        torch.testing.assert_close(direction[name].flatten(1).norm(dim=1), norms)
        assert not torch.equal(direction[name], weight)
    assert {"head.weight", "pos_embed", "stem.convs.0.weight"} <= direction.keys()


def test_a_filter_without_weights_stays_still(network: SReT) -> None:
    with torch.no_grad():
        network.head.weight[1].zero_()
    direction = filter_normalised_direction(network, "a")["head.weight"]
    assert direction[1].tolist() == [0.0] * 8
    assert direction[0].abs().sum() > 0


def test_a_direction_follows_from_its_key_and_the_names_of_the_weights(network: SReT) -> None:
    first, again, other = (filter_normalised_direction(network, key) for key in ("a", "a", "b"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_a_shared_block_has_one_direction(network: SReT) -> None:
    names = [name for name in filter_normalised_direction(network, "a") if "attn.qkv" in name or "qkv" in name]
    assert len(names) == ARCH.stages[0].blocks  # and not blocks x recursions


def test_moving_adds_both_directions_and_back_restores_the_weights_bit_for_bit(network: SReT) -> None:
    before = copy.deepcopy(network.state_dict())
    first, second = (filter_normalised_direction(network, key) for key in ("a", "b"))
    movable = MovableNetwork(network, "a", "b")
    movable.move_to(0.5, -0.25)
    for name, value in network.state_dict().items():
        moved = before[name] + 0.5 * first[name] - 0.25 * second[name] if name in first else before[name]
        torch.testing.assert_close(value, moved)
    movable.move_to(0.0, 0.0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
