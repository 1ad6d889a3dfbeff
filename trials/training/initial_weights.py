"""The weights from which a whole training starts: new ones, a supernet's, or those of a trained network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from timm.models import adapt_input_conv
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.files import validate
from sret_nas.nn.model_directory import directory_of_weights, find_model_directory, read_model
from sret_nas.nn.network import HEADS, SReT
from sret_nas.nn.supernet import Supernet

from .recipe import ProxyConfig, proxy_arch


class _SupernetRecord(BaseModel):
    """The part of a supernet file's training record that finding a network in it needs."""

    model_config = ConfigDict(frozen=True, extra="allow")

    proxy: ProxyConfig


@dataclass(frozen=True)
class InitialWeights:
    """The weights of a network, and what had to be changed to fit another."""

    network: SReT
    origin: str
    """Where they come from, for people."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes in the order of the logits; None if they are not known."""


def weights_of_supernet(path: Path, target: ArchConfig) -> InitialWeights:
    """Returns the weights that a supernet holds for a network.

    The supernet holds the target's proxy: the same shape at the supernet's image size.

    Raises `UserError` if the file is no supernet, lacks the network, or was trained with narrower networks.
    """
    supernet, training = Supernet.load(path)
    proxy = validate(_SupernetRecord, training, f"{path}: training").proxy
    if proxy.width_scale != 1:
        raise UserError(
            f"{path}: holds networks of {proxy.width_scale:g} times the width of their targets (--width-scale), so "
            "none of its weights fit the target itself"
        )
    shape = supernet.shape
    arch = proxy_arch(target, proxy, channels=shape.channels, classes=shape.classes)
    try:
        shape.check(arch)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return InitialWeights(supernet.extract(arch), f"the supernet {path}")


def weights_of_checkpoint(path: Path, target: ArchConfig) -> InitialWeights:
    """Returns the weights of a trained network that differs from the target at most in its input and classes.

    `path` is a weights file of `SReT.save`, a model directory, or the run of a training.

    Raises `UserError` if the file holds no network or another one, or if the target's attention would lose its exact
    slices: with as many tokens in each.
    """
    class_names = None
    directory = find_model_directory(path) if path.is_dir() else directory_of_weights(path)
    if directory is None:
        network = SReT.load(path)
    else:
        network, info = read_model(directory)
        class_names = info.class_names
    _require_same_blocks(network.arch, target, path)
    _require_exact_slices(network.arch, target, path)
    return InitialWeights(network, f"the checkpoint {path}", class_names)


def fitted_state(network: SReT, target: ArchConfig) -> tuple[dict[str, Tensor], list[str]]:
    """Returns the weights of a network for one with another image size, or other channels or classes, as a state dict.

    The position embedding is resized, the first convolution adapted as timm does, and a head for other classes left
    out. Also returns what was done, in words.
    """
    before, changes = network.arch, []
    state = network.state_for(target)
    if before.resolutions[0] != target.resolutions[0]:
        sides = f"{before.resolutions[0]} to {target.resolutions[0]}"
        changes.append(f"position embedding resized from {sides} tokens a side")
    if before.channels != target.channels:
        first = "stem.proj.weight" if before.stem.kind == "patch" else "stem.convs.0.weight"
        state[first] = adapt_input_conv(target.channels, state[first], before.channels)
        changes.append(f"first convolution adapted from {before.channels} to {target.channels} channels")
    if before.classes != target.classes:
        changes.append(f"new head for {target.classes} classes (had {before.classes})")
    return state, changes


def load_initial(network: SReT, initial: InitialWeights, class_names: tuple[str, ...] | None = None) -> list[str]:
    """Loads weights into a network in place, and returns what was changed to make them fit, in words.

    Args:
        network: The network, with new weights.
        initial: The weights.
        class_names: The network's classes. As many classes with other names, or in another order, are matched by name.
    """
    state, changes = fitted_state(initial.network, network.arch)
    known = initial.class_names
    if known is not None and class_names is not None and len(known) == len(class_names) and known != class_names:
        heads, change = _head_by_name(state, network.state_dict(), known, class_names)
        state |= heads
        changes.append(change)
    missing = network.load_state_dict(state, strict=False).missing_keys
    assert all(name.startswith(HEADS) for name in missing), missing
    return changes


def _head_by_name(
    state: Mapping[str, Tensor], new: Mapping[str, Tensor], known: tuple[str, ...], class_names: tuple[str, ...]
) -> tuple[dict[str, Tensor], str]:
    """Returns heads with the rows of the classes that are known, and new ones for the others; and that in words."""
    index = {name: position for position, name in enumerate(known)}
    rows = [position for position, name in enumerate(class_names) if name in index]
    of_rows = [index[class_names[position]] for position in rows]
    heads = {name: tensor.clone() for name, tensor in new.items() if name.startswith(HEADS)}
    for name, tensor in heads.items():
        tensor[rows] = state[name][of_rows].to(tensor.dtype)
    if len(rows) == len(class_names):
        return heads, "head put into the order of the data's classes"
    return heads, f"new head for {len(class_names) - len(rows)} of {len(class_names)} classes, which have other names"


def _require_same_blocks(found: ArchConfig, target: ArchConfig, path: Path) -> None:
    """Raises `UserError` naming the first difference between two networks that decides about weights or their use.

    Group schedules and permutations own no weights, so they may differ.
    """
    ours, theirs = _described(target), _described(found)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise UserError(
                f"{path}: holds another network: its {name} is {theirs.get(name)}, but the architecture's is "
                f"{ours.get(name)}; only image size, channels, classes, groups and permutations may differ"
            )


def _described(arch: ArchConfig) -> dict[str, Any]:
    canonical = arch.canonical()
    described: dict[str, Any] = {
        "number of stages": len(arch.stages),
        "residual": arch.residual,
        "head": arch.head,
        **{f"stem.{name}": value for name, value in canonical.stem},
    }
    described["stem.strides"] = list(canonical.stem.strides)
    for index, stage in enumerate(canonical.stages):
        values = {
            "width": stage.width, "heads": stage.heads, "blocks": stage.blocks, "recursions": stage.recursions,
            "loop": stage.loop, "nll": stage.nll, "nll hidden width": stage.nll_hidden if stage.num_nlls else 0,
            "mlp hidden width": stage.mlp_hidden,
        }  # fmt: skip
        described |= {f"stages[{index}].{name}": value for name, value in values.items()}
    return described


def _require_exact_slices(found: ArchConfig, target: ArchConfig, path: Path) -> None:
    """Raises `UserError` if slices of equal length in the checkpoint become unequal in the target."""
    for index, (before, after) in enumerate(zip(found.stages, target.stages, strict=True)):
        tokens_before, tokens = found.num_tokens[index], target.num_tokens[index]
        was_exact = all(tokens_before % groups == 0 for groups in before.groups[: before.recursions])
        unequal = [groups for groups in after.groups[: after.recursions] if tokens % groups]
        if was_exact and unequal:
            side = target.resolutions[index]
            raise UserError(
                f"{path}: its attention has slices of equal length, but at {target.image_size} px stage {index + 1} "
                f"has {side} x {side} tokens, which {unequal[0]} slices do not divide: choose another --image-size, or "
                "other groups in the architecture"
            )
