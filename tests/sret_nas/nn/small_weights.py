"""A small network and supernet, and their weights files, which tests may damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from sret_nas.space.supernet_shape import bounding_shape
from tests.counted_spaces import space_of

SPACE = space_of(
    {"width": [8, 12], "heads": [2], "recursions": [2], "groups": [[4, 2]], "nll": ["every"]}, {"width": [16]}
)
TRAINING: dict[str, Any] = {"seed": 3, "config": {"draws": "stratified", "rate": 2e-3, "depths": [1, 2]}}


def network() -> SReT:
    """Returns a network after a little training, so that its BatchNorm statistics differ from a new network's."""
    torch.manual_seed(0)
    network = SReT(SPACE.network([0, 0])).train()
    network(torch.randn(4, 3, 32, 32))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return network


def supernet() -> Supernet:
    torch.manual_seed(0)
    return Supernet(bounding_shape(SPACE))


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in module.state_dict().items()}


def header_of(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def rewritten(path: Path, *, header: dict[str, Any] | None = None, **tensors: Tensor | None) -> None:
    """Rewrites a file with parts of its header replaced, and tensors replaced, added or (None) removed."""
    content: dict[str, Tensor | None] = {**safetensors.torch.load_file(path), **tensors}
    kept = {name: tensor for name, tensor in content.items() if tensor is not None}
    changes = {name: json.dumps(value) for name, value in (header or {}).items()}
    safetensors.torch.save_file(kept, path, header_of(path) | changes)


def assert_equal_states(ours: nn.Module, theirs: nn.Module) -> None:
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, tensor in ours.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name
