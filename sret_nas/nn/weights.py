"""Weights as files: safetensors, which hold numbers and words and nothing that could run, written whole or not at all.

A file says in its own header what it holds: a network's file its architecture, a supernet's its extent, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sret_nas.errors import UserError
from sret_nas.files import write_atomically

Module = TypeVar("Module", bound=nn.Module)


def write_weights(path: Path, module: nn.Module, about: dict[str, Any]) -> None:
    """Writes a module's weights, and plain data about them into the header."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    metadata = {name: json.dumps(value) for name, value in about.items()}
    write_atomically(path, safetensors.torch.save(weights, metadata))


def read_weights(path: Path, *contents: str) -> tuple[list[Any], dict[str, Tensor]]:
    """What a header says under each of `contents`, the first of which tells what the file is, and the tensors.

    Raises `UserError` for a file that cannot be read or does not hold all of `contents`.
    """
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


def check_shapes(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Raises `UserError` unless the weights read from `path` are by name and shape those of the module."""
    own = module.state_dict()
    for name in [*own, *(weights.keys() - own.keys())]:
        ours, theirs = (None if name not in state else tuple(state[name].shape) for state in (own, weights))
        if theirs is None:
            raise UserError(f"{path}: {name} is missing; it must have the shape {ours}")
        if ours is None:
            raise UserError(f"{path}: {name} belongs to nothing that the header tells of")
        if ours != theirs:
            raise UserError(f"{path}: {name} must have the shape {ours}, got {theirs}")


def on_meta_device(build: Callable[[], Module]) -> Module:
    """What `build` makes, on the meta device: shapes only. No generator's state changes."""
    with torch.device("meta"):
        return build()
