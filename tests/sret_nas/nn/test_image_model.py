"""What is said of a network's features, and which stages can be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.nn.network import SReT

STAGE = {"width": 4, "heads": 1, "blocks": 1, "recursions": 1, "groups": [1]}


@pytest.fixture
def network() -> SReT:
    data = {"stages": [STAGE] * 2, "image_size": 24, "classes": 2, "stem": {"width": 2, "strides": [2, 2, 2]}}
    return SReT(ArchConfig.from_dict(data, "data"))


def test_reductions_are_those_of_the_strides_whatever_the_size_of_images(network: SReT) -> None:
    """24 pixels are 3, then 2, and 24 / 2 is no reduction by 16."""
    assert [info["reduction"] for info in network.feature_info] == [8, 16]


@pytest.mark.parametrize("number", [3, 0, -1])
def test_a_number_of_stages_that_the_network_does_not_have_is_refused(number: int, network: SReT) -> None:
    with pytest.raises(UserError, match=f"the network has stages 0 to 1, got {number}"):
        network.forward_intermediates(torch.zeros(1, 3, 24, 24), number)


def class_token_network(**changes: object) -> SReT:
    data = {"stages": [STAGE] * 2, "image_size": 32, "classes": 2, "head": "class_token", **changes}
    return SReT(ArchConfig.from_dict(data, "data")).eval()


@pytest.mark.parametrize(("height", "width"), [(16, 64), (64, 16), (16, 32), (24, 40)])
def test_features_of_class_token_networks_have_the_sides_of_the_image(height: int, width: int) -> None:
    """And the pixels in their order."""
    network = class_token_network()
    images = torch.randn(2, 3, height, width)
    with torch.no_grad():
        last, found = network.forward_intermediates(images)
    sides = [(-(-height // stride), -(-width // stride)) for stride in (8, 16)]
    assert [tuple(one.shape[2:]) for one in found] == sides
    assert torch.equal(found[-1].flatten(2).transpose(1, 2), last[:, 1:])


def test_features_of_a_single_stage_with_class_tokens() -> None:
    network = class_token_network(stages=[STAGE])
    _, found = network.forward_intermediates(torch.randn(1, 3, 16, 64))
    assert found[0].shape == (1, 4, 2, 8)


@pytest.mark.parametrize("given", ["avg", "token"])
def test_avg_is_whatever_the_head_sees(given: str) -> None:
    """As for timm's `create_model`."""
    network = class_token_network()
    network.reset_classifier(5, "")
    network.reset_classifier(5, given)
    assert network.global_pool == "token"
    assert network(torch.randn(1, 3, 32, 32)).shape == (1, 5)


def test_another_pooling_is_refused(network: SReT) -> None:
    with pytest.raises(UserError, match=r"global_pool must be 'avg' or '', got 'token'"):
        network.reset_classifier(5, "token")
    with pytest.raises(UserError, match=r"global_pool must be 'token', 'avg' or '', got 'max'"):
        class_token_network().reset_classifier(5, "max")


def test_numbers_of_numpy_are_numbers(network: SReT, tmp_path: Path) -> None:
    network.set_input_size(np.int64(32))  # type: ignore[arg-type]
    network.reset_classifier(np.arange(6).max())
    images = torch.randn(2, 3, 32, 32)
    assert network.eval()(images).shape == (2, 5)
    assert len(network.forward_intermediates(images, np.int64(1))[1]) == 1  # type: ignore[arg-type]
    network.save(tmp_path / "n.safetensors")
    assert torch.equal(SReT.load(tmp_path / "n.safetensors").eval()(images), network(images))


@pytest.mark.parametrize("classes", [-1, None, "5", 2.5])
def test_a_head_for_an_impossible_number_of_classes_is_refused(classes: Any, network: SReT) -> None:
    head = network.head
    with pytest.raises(UserError, match=f"^num_classes must be a whole number of at least 0, got {classes!r}$"):
        network.reset_classifier(classes, "")
    assert (network.head, network.num_classes, network.global_pool) == (head, 2, "avg")


@pytest.mark.parametrize("is_frozen", [True, False])
def test_another_image_size_freezes_and_thaws_nothing(is_frozen: bool, network: SReT) -> None:
    network.requires_grad_(not is_frozen)
    network.set_input_size(32)
    assert {parameter.requires_grad for parameter in network.parameters()} == {not is_frozen}
