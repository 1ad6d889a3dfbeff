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
from sret_nas.nn.supernet import Supernet, empty_network, without_numbers


def save_network(path: Path, network: SReT) -> None:
    """Writes a network's architecture and weights."""
    _save(path, network, {"architecture": network.arch.to_dict()})


def load_network(path: Path) -> SReT:
    """The network in a file of `save_network`, on the CPU. Raises `UserError` if the file holds none."""
    (architecture,), weights = _load(path, "architecture")
    arch = ArchConfig.from_dict(architecture, f"{path}: architecture")
    _check_shapes(without_numbers(lambda: SReT(arch)), weights, path)
    network = empty_network(arch, torch.device("cpu"), weights["pos_embed"].dtype)
    network.load_state_dict(weights)
    return network


def save_supernet(path: Path, supernet: Supernet, training: dict[str, Any]) -> None:
    """Writes a supernet's extent and weights, and plain data about how they were trained."""
    _save(path, supernet, {"extent": supernet.extent.model_dump(mode="json"), "training": training})


def load_supernet(path: Path) -> tuple[Supernet, dict[str, Any]]:
    """The supernet in a file of `save_supernet`, on the CPU, and how it was trained. Raises `UserError`."""
    (shape, training), weights = _load(path, "extent", "training")
    extent = validate(Extent, shape, f"{path}: extent")
    supernet = without_numbers(lambda: Supernet(extent))
    _check_shapes(supernet, weights, path)
    supernet.to(weights["pos_embed"].dtype).to_empty(device="cpu").load_state_dict(weights)
    return supernet, training


def _save(path: Path, module: nn.Module, about: dict[str, Any]) -> None:
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    metadata = {name: json.dumps(value) for name, value in about.items()}
    write_atomically(path, safetensors.torch.save(weights, metadata))


def _load(path: Path, *contents: str) -> tuple[list[Any], dict[str, Tensor]]:
    """What a header says under each of `contents`, the first of which tells what the file is, and the tensors."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if missing := [name for name in contents if name not in header]:
                what = {"architecture": "a network's weights", "extent": "a supernet"}[contents[0]]
                raise UserError(f"{path}: does not hold {what}: it has no {missing[0]!r} in its header")
            about = [json.loads(header[name]) for name in contents]
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as weights: {error}") from None


def _check_shapes(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    own = module.state_dict()
    for name in [*own, *(weights.keys() - own.keys())]:
        ours, theirs = (None if name not in state else tuple(state[name].shape) for state in (own, weights))
        if theirs is None:
            raise UserError(f"{path}: {name} is missing; it must have the shape {ours}")
        if ours is None:
            raise UserError(f"{path}: {name} belongs to nothing that the header tells of")
        if ours != theirs:
            raise UserError(f"{path}: {name} must have the shape {ours}, got {theirs}")
