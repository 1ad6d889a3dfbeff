"""What is said of a network's features, and which stages can be asked for."""

from __future__ import annotations

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
