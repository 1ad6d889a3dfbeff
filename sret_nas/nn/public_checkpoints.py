"""Converts state dicts of the public code (github.com/szq0214/SReT) to this network's and back, name by name.

The public code lists a stage's modules in the order in which they run, blocks and NLLs alternating: module 2 a is the
block of application a, module 2 a + 1 the NLL after it. A shared block is listed once for each of its recursions.
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import MAX_VALUE, UserError, describe, printable
from sret_nas.files import write_atomically
from sret_nas.nn.checkpoints import read_checkpoint
from sret_nas.nn.network import SReT
from sret_nas.nn.public_limits import require_possible
from sret_nas.nn.weight_shapes import Shape, network_shapes
from sret_nas.nn.weights import wrapper_prefix

_WEIGHT_AND_BIAS = ("weight", "bias")
_BLOCK_LAYERS = {name: name for name in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")}
_NLL_LAYERS = {"norm1": "norm", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}


WRAPPERS = (
    *("model", "state_dict", "model_state_dict", "model_ema", "state_dict_ema", "ema", "module", "net", "network"),
    *("weights", "params", "params_ema"),
)
"""Keys under which training scripts save a state dict. The first that is present is used."""
MAX_WRAPPERS = 4
"""Levels of nested wrappers that are unwrapped."""
MAX_NAMED = 5
"""Names listed in a message."""
MAX_ARGS = 200
"""Arguments of a training that are read."""
ARCHITECTURE = "sret_nas_architecture"
"""The key of a public checkpoint under which `write_public` keeps the architecture."""
ABOUT = "sret_nas_about"
"""The key under which it keeps what else is known of the network: plain data by name."""
AVERAGED = "n_averaged"
"""The counter that torch's `AveragedModel` keeps beside the weights."""


class PublicCheckpoint(NamedTuple):
    """What a file of the public code holds."""

    state: dict[str, Tensor]
    """The weights under the public names."""
    args: dict[str, Any]
    """The arguments of the training that are plain values; empty if the file does not say them."""
    architecture: dict[str, Any] | None
    """The architecture, if the file was written by `write_public`."""
    source: str
    """The file, for messages."""
    about: object = None
    """What `write_public` was told of the network; not checked. None if it was told nothing."""

    def convert(self, arch: ArchConfig) -> dict[str, Tensor]:
        """Returns the weights as a state dict of `SReT(arch)`. Raises `UserError` as `from_public` does."""
        try:
            return from_public(self.state, arch)
        except UserError as error:
            raise UserError(f"{self.source}: {error}") from None


class _Entry(NamedTuple):
    """The names of one tensor in the two codes. `position` is its index in our vector of residual coefficients."""

    public: str
    ours: str
    position: int | None = None


def from_public(state: Mapping[str, Tensor], arch: ArchConfig) -> dict[str, Tensor]:
    """Converts a public state dict to one of `SReT(arch)`.

    Raises `UserError` naming a weight that is missing, unknown, of another shape, not finite, or different between two
    uses of a shared block; and if the public code cannot express `arch`.
    """
    entries = _entries(arch)
    _compare_names({entry.public for entry in entries}, set(state), "the public state dict")
    shapes = dict(network_shapes(arch))
    pieces: dict[str, dict[int | None, Tensor]] = {}
    for public, ours, position in entries:
        tensor, shape = state[public], shapes[ours] if position is None else (1,)
        if tuple(tensor.shape) != shape:
            actual_shape = describe(tuple(tensor.shape))
            raise UserError(f"{public} must have the shape {shape} for this architecture, got {actual_shape}")
        if not torch.isfinite(tensor).all():
            raise UserError(f"{public} holds numbers that are not finite: its training diverged")
        if not torch.equal(pieces.setdefault(ours, {}).setdefault(position, tensor), tensor):
            raise UserError(f"{public} must equal the earlier uses of its block, which it shares, and does not")
    return {ours: whole[None] if None in whole else torch.cat(list(whole.values())) for ours, whole in pieces.items()}


def to_public(state: Mapping[str, Tensor], arch: ArchConfig) -> dict[str, Tensor]:
    """Converts the `state_dict` of `SReT(arch)` to the public code's names, with shared blocks once for each use.

    Raises `UserError` as `from_public` does, and for numbers that the public code cannot have.
    """
    entries = _entries(arch)
    require_possible(arch)
    _compare_names({entry.ours for entry in entries}, set(state), "the state dict")
    return {
        public: state[ours] if position is None else state[ours][position : position + 1]
        for public, ours, position in entries
    }


def read_public(path: str | Path) -> PublicCheckpoint:
    """Reads a public checkpoint file (`torch.save`).

    Runs no code in the file: it is read with `weights_only`. Raises `UserError`, naming the file.
    """
    # The public code saves its command-line arguments, an argparse.Namespace, beside the weights. It is plain data.
    with torch.serialization.safe_globals([argparse.Namespace]):
        checkpoint = read_checkpoint(path)
    state = unwrapped(checkpoint, str(path))
    beside = checkpoint if isinstance(checkpoint, dict) else {}
    architecture = beside.get(ARCHITECTURE)
    return PublicCheckpoint(
        state=state,
        args=_plain_values(beside.get("args")),
        architecture=architecture if isinstance(architecture, dict) else None,
        source=str(path),
        about=beside.get(ABOUT),
    )


def write_public(path: Path, network: SReT, about: Mapping[str, Any] | None = None) -> None:
    """Writes a network as the public code saves it: `torch.load(path)["model"]` is its state dict.

    The architecture lies beside the weights as plain data, so that converting back finds the groups as well, and so
    does what `about` says of the network. Raises `UserError` if the public code cannot express the architecture.
    """
    arch = network.current_arch
    state = {name: tensor.detach().cpu().clone() for name, tensor in to_public(network.state_dict(), arch).items()}
    buffer = io.BytesIO()
    beside = {} if about is None else {ABOUT: dict(about)}
    torch.save({"model": state, ARCHITECTURE: arch.to_dict(), **beside}, buffer)
    write_atomically(path, buffer.getvalue())


def differences(state: Mapping[str, Tensor], arch: ArchConfig, limit: int | None = MAX_NAMED) -> list[str]:
    """Returns what makes a public state dict another network than `arch`, naming at most `limit` weights of a kind.

    Raises `UserError` if the public code cannot express `arch`.
    """
    expected = public_shapes(arch)
    missing, unknown = expected.keys() - state.keys(), state.keys() - expected.keys()
    wrong = [
        f"{name} must have the shape {shape}, got {describe(tuple(state[name].shape))}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    if limit is None:
        return [*missing, *unknown, *wrong]
    kinds = (("lacks", missing), ("holds the unknown", unknown))
    found = [f"it {kind} {_listed(set(names))}" for kind, names in kinds if names]
    more = [f"{len(wrong) - limit} more have other shapes"] if len(wrong) > limit else []
    return [*found, *wrong[:limit], *more]


def public_shapes(arch: ArchConfig) -> dict[str, Shape]:
    """Returns the shapes of all weights under their public names. Raises `UserError` as `from_public` does."""
    shapes = dict(network_shapes(arch))
    return {entry.public: shapes[entry.ours] if entry.position is None else (1,) for entry in _entries(arch)}


def _plain_values(args: object) -> dict[str, Any]:
    """Returns the arguments that are numbers, short words, true, false or null, of a Namespace or a mapping."""
    fields = vars(args) if isinstance(args, argparse.Namespace) else args
    if not isinstance(fields, dict):
        return {}
    return {
        name: value
        for name, value in list(fields.items())[:MAX_ARGS]
        if isinstance(name, str) and name.isidentifier() and _is_plain(value)
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return len(value) <= MAX_VALUE and value.isprintable()
    return value is None or isinstance(value, bool | int)


_FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Types of weights; torch has no arithmetic for the smaller ones."""


def unwrapped(checkpoint: Any, source: str) -> dict[str, Tensor]:
    """Returns the state dict in a checkpoint: itself, or under one of `WRAPPERS`, without prefixes common to all names.

    Raises `UserError` if there is none, or naming the key of a value that is not a tensor of floating-point numbers.
    """
    state = checkpoint
    for _ in range(MAX_WRAPPERS):
        inner = (
            next((state[name] for name in WRAPPERS if isinstance(state.get(name), dict)), None)
            if isinstance(state, dict)
            else None
        )
        if inner is None:
            break
        state = inner
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise UserError(
            f"{source}: must hold weights by name, as a state dict or under one of {', '.join(WRAPPERS)}, got none"
        )
    state = {name: value for name, value in state.items() if name != AVERAGED}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f"{source}: {describe(name)} must be a tensor, got {type(value).__name__}")
        if not (value.is_floating_point() or name.endswith("num_batches_tracked")):
            raise UserError(f"{source}: {describe(name)} must be of floating-point numbers, got {value.dtype}")
        if value.is_floating_point() and value.dtype not in _FLOATING:
            known = ", ".join(str(dtype).removeprefix("torch.") for dtype in _FLOATING)
            raise UserError(f"{source}: {describe(name)} must be of {known}, got {value.dtype}: convert the weights")
    prefix = wrapper_prefix(state)
    return {name.removeprefix(prefix): value for name, value in state.items()}


def _entries(arch: ArchConfig) -> list[_Entry]:
    """Returns an entry for every tensor of the public state dict; tensors of shared blocks have one for each use."""
    _check_expressible(arch)
    entries = [_Entry("pos_embed", "pos_embed")]
    for index in range(3):
        entries += _layer(f"patch_embed.conv{index + 1}", f"stem.convs.{index}")
        entries += _layer(f"patch_embed.bn{index + 1}", f"stem.norms.{index}")
        for statistic in ("running_mean", "running_var", "num_batches_tracked"):
            entries.append(_Entry(f"patch_embed.bn{index + 1}.{statistic}", f"stem.norms.{index}.{statistic}"))
    for index, stage in enumerate(arch.stages):
        public, ours = f"transformers.{index}.blocks", f"stages.{index}"
        for use, (block, recursion) in enumerate(stage.applications()):
            entries += _module(f"{public}.{2 * use}", f"{ours}.blocks.{block}", _BLOCK_LAYERS, 4)
            entries += _module(f"{public}.{2 * use + 1}", f"{ours}.nlls.{block}.{recursion}", _NLL_LAYERS, 2)
        if index + 1 < len(arch.stages):
            entries += _layer(f"pools.{index}.conv", f"pools.{index}")
    return [*entries, *_layer("norm", "norm"), *_layer("head", "head")]


def _layer(public: str, ours: str) -> Iterator[_Entry]:
    return (_Entry(f"{public}.{name}", f"{ours}.{name}") for name in _WEIGHT_AND_BIAS)


def _module(public: str, ours: str, layers: Mapping[str, str], num_coefficients: int) -> Iterator[_Entry]:
    """Yields the entries of a block or an NLL: its layers, then its coefficients, in the same order in both codes."""
    for theirs, name in layers.items():
        yield from _layer(f"{public}.{theirs}", f"{ours}.{name}")
    for index in range(num_coefficients):
        yield _Entry(f"{public}.coefficient{index + 1}.bias", f"{ours}.coefficients", index)


def _check_expressible(arch: ArchConfig) -> None:
    """Raises `UserError` unless loops are internal, an NLL follows every application, and all else is the paper's."""
    canonical = arch.canonical()
    variants = [*canonical.variant_words(), *(name for stage in canonical.stages for name in stage.variants)]
    if variants:
        raise UserError(f"the public code has no variants of the paper's network, got {', '.join(variants)}")
    for index, stage in enumerate(arch.stages):
        internal = stage.model_copy(update={"loop": "internal"})
        follows_all = all(stage.nll_after(recursion) == recursion for recursion in range(stage.recursions))
        if stage.applications() != internal.applications() or not follows_all:
            raise UserError(
                f"the public code has internal loops with an NLL after every application only, "
                f"got loop={stage.loop}, nll={stage.nll} in stages[{index}]"
            )


def _listed(names: set[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(printable(name, MAX_VALUE) for name in sorted(names)[:MAX_NAMED]) + more


def _compare_names(expected: set[str], actual: set[str], what: str) -> None:
    """Raises `UserError` naming missing and unknown names; `what` names the state dict in the message."""
    problems = [
        f"{kind} {_listed(names)}"
        for kind, names in (("lacks", expected - actual), ("holds the unknown", actual - expected))
        if names
    ]
    if problems:
        raise UserError(f"{what} does not fit this architecture: it {' and '.join(problems)}")
