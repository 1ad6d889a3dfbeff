"""Weights as files: safetensors, which hold numbers and words and nothing that could run, written whole or not at all.

A file says in its own header what it holds: a network's file its architecture, a supernet's its extent, as JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sret_nas.arch import ArchConfig
from sret_nas.errors import UserError
from sret_nas.extent import Extent
from sret_nas.files import validate, write_atomically
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet


def save_network(path: Path, network: SReT) -> None:
    """Writes a network's architecture and weights."""
    _save(path, network, {"architecture": network.arch.to_dict()})


def load_network(path: Path) -> SReT:
    """The network in a file of `save_network`, on the CPU. Raises `UserError` if the file holds none."""
    about, weights = _load(path, "architecture")
    network = SReT(ArchConfig.from_dict(about["architecture"], f"{path}: architecture"))
    _assign(network, weights, path)
    return network


def save_supernet(path: Path, supernet: Supernet, training: dict[str, Any]) -> None:
    """Writes a supernet's extent and weights, and plain data about how they were trained."""
    _save(path, supernet, {"extent": supernet.extent.model_dump(mode="json"), "training": training})


def load_supernet(path: Path) -> tuple[Supernet, dict[str, Any]]:
    """The supernet in a file of `save_supernet`, on the CPU, and how it was trained. Raises `UserError`."""
    about, weights = _load(path, "extent")
    supernet = Supernet(validate(Extent, about["extent"], f"{path}: extent"))
    _assign(supernet, weights, path)
    return supernet, about.get("training", {})


def _save(path: Path, module: nn.Module, about: dict[str, Any]) -> None:
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    metadata = {name: json.dumps(value) for name, value in about.items()}
    write_atomically(path, safetensors.torch.save(weights, metadata))


def _load(path: Path, content: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file says about itself, which must tell of `content`, and its tensors."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as weights: {error}") from None
    if content not in about:
        what = {"architecture": "a network's weights", "extent": "a supernet"}[content]
        raise UserError(f"{path}: does not hold {what}: it has no {content!r} in its header")
    return about, weights


@torch.no_grad()
def _assign(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    own = module.state_dict()
    for name in own.keys() | weights.keys():
        ours, theirs = own.get(name), weights.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            found = [None if tensor is None else tuple(tensor.shape) for tensor in (ours, theirs)]
            raise UserError(f"{path}: {name} must have the shape {found[0]}, got {found[1]}")
    module.load_state_dict(weights)
