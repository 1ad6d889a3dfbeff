"""Weights files: safetensors, which hold tensors and text but no code, written whole or not at all.

The header describes the content as JSON: the architecture of a network, or the shape of a supernet (`SupernetShape`,
under the key `extent`). Names, dtypes and shapes in the header are compared with it before anything is built or read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sret_nas.bounded_files import open_regular
from sret_nas.errors import UserError, describe, printable
from sret_nas.files import as_path, write_atomically
from sret_nas.json_files import MAX_BYTES, parse_json
from sret_nas.nn.weight_shapes import Shape

Module = TypeVar("Module", bound=nn.Module)

Layout = Mapping[str, tuple[str, Shape]]
"""Dtype and shape of tensors by name, with safetensors' names of dtypes."""

_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_DTYPE_NAMES = {dtype: name for name, dtype in _FLOATS.items()} | {torch.int64: "I64"}
_COUNTER = "num_batches_tracked"
"""How the names of BatchNorm's counters end, the only integer tensors among the weights."""

_WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_forward_module.", "model.", "net.", "network.")

_LFS_POINTER = b"version "
"""The first 8 bytes of the text that Git LFS leaves in place of a file; as a length they would be out of bounds."""

_TORCH_STARTS = (b"PK\x03\x04", b"\x80\x02")
"""How files of `torch.save` begin, as zip archives or pickles. Files of safetensors can begin like the second."""

_CONTENTS = {"architecture": "a network's weights", "extent": "a supernet"}

_INSTEAD = {
    "architecture": "it holds a single network's weights, which `evaluate` takes",
    "extent": "it holds a supernet, which `search --supernet` and `supernet evaluate` take",
}
"""What a file holds instead, by a key of its header."""


def write_weights(path: str | Path, state: Mapping[str, Tensor], about: dict[str, Any]) -> None:
    """Writes weights by name, with plain data about them in the header."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    metadata = {name: json.dumps(value) for name, value in about.items()}
    write_atomically(as_path(path, "the file of weights"), safetensors.torch.save(weights, metadata))


class WeightsFile:
    """A weights file whose header has been read, but not its tensors."""

    def __init__(self, path: str | Path, *contents: str, may_lack: bool = False) -> None:
        """Reads and checks the header. Raises `UserError` if it cannot be read or lacks one of the `contents`.

        Args:
            path: the file.
            contents: keys that the header must have. The first says what the file holds: a network or a supernet.
            may_lack: whether the header may have none of the `contents`, as in files that other programs wrote.
        """
        path = self.path = as_path(path, "the file of weights")
        header, self._num_bytes = _read_header(path)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise UserError(f"{path}: cannot be read as weights: its metadata must be words by name")
        missing = [name for name in contents if name not in metadata]
        if missing and not (may_lack and not any(name in metadata for name in _CONTENTS)):
            what = _CONTENTS[contents[0]]
            other = next((advice for key, advice in _INSTEAD.items() if key in metadata and key != contents[0]), None)
            because = f"it has no {missing[0]!r} in its header" if other is None else other
            raise UserError(f"{path}: does not hold {what}: {because}")
        prefix = wrapper_prefix(header)
        self._stored = {name.removeprefix(prefix): name for name in header}
        self.layout: Layout = {name: _entry(name, header[stored], path) for name, stored in self._stored.items()}
        self.header: dict[str, Any] = {
            name: parse_json(metadata[name], f"{path}: cannot be read as weights: {name} in its header")
            for name in contents
            if name in metadata
        }

    def read(self) -> dict[str, Tensor]:
        """Returns all tensors by name. Raises `UserError` naming one that holds numbers that are not finite."""
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                weights: dict[str, Tensor] = {name: file.get_tensor(stored) for name, stored in self._stored.items()}
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            size = os.path.getsize(self.path) if os.path.isfile(self.path) else None
            if size is not None and size != self._num_bytes:
                what = "is cut short" if size < self._num_bytes else "is too long"
                raise UserError(
                    f"{self.path}: cannot be read as weights: it {what}: it must have {self._num_bytes:,} bytes, got "
                    f"{size:,}: copy or download it again"
                ) from None
            raise UserError(f"{self.path}: cannot be read as weights: {error}") from None
        check_finite(weights, str(self.path))
        return weights


def wrapper_prefix(names: Iterable[str]) -> str:
    """Returns what stands before the names of all weights.

    DistributedDataParallel, `torch.compile`, FSDP, Lightning's Fabric and modules that hold a network put it there.
    """
    names, prefix = list(names), ""
    while names:
        wrapper = next((w for w in _WRAPPERS if all(name.startswith(prefix + w) for name in names)), None)
        if wrapper is None:
            break
        prefix += wrapper
    return prefix


def _read_header(path: str | Path) -> tuple[dict[str, Any], int]:
    """Returns the header: one entry per tensor, and the metadata. Also returns how many bytes the whole file has."""
    with open_regular(path) as file:
        start = file.read(8)
        if start == _LFS_POINTER:
            raise UserError(
                f"{path}: is a pointer of Git LFS, without the weights themselves: fetch them (git lfs pull)"
            )
        length = int.from_bytes(start, "little")
        if length > MAX_BYTES and start.startswith(_TORCH_STARTS):
            raise UserError(
                f"{path}: cannot be read as weights: it is a file of torch.save, not of safetensors: a checkpoint of "
                "the public code becomes a model directory by `convert FILE --to DIR`"
            )
        if length > MAX_BYTES:
            raise UserError(
                f"{path}: cannot be read as weights: it is no safetensors file, or its header has more than "
                f"{MAX_BYTES:,} bytes"
            )
        content = file.read(length)
    if length == 0 or len(content) < length:
        raise UserError(f"{path}: cannot be read as weights: it ends inside its header")
    header = parse_json(content, f"{path}: cannot be read as weights: its header")
    if not isinstance(header, dict):
        raise UserError(f"{path}: cannot be read as weights: its header must be a mapping, got {describe(header)}")
    entries = (entry.get("data_offsets") for entry in header.values() if isinstance(entry, dict))
    ends = (offsets[-1] for offsets in entries if isinstance(offsets, list) and offsets)
    return header, 8 + length + max((end for end in ends if isinstance(end, int)), default=0)


def _entry(name: str, entry: Any, path: str | Path) -> tuple[str, Shape]:
    """Returns the dtype and shape of a tensor from its entry in the header."""
    dtype, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    if not isinstance(dtype, str) or not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
        raise UserError(f"{path}: cannot be read as weights: {_shown(name)} has no type and shape in its header")
    return dtype, tuple(shape)


def layout_of(state: Mapping[str, Tensor]) -> Layout:
    """Returns the dtypes and shapes of tensors by name."""
    return {
        name: (_DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape)) for name, tensor in state.items()
    }


def check_layout(expected: Iterable[tuple[str, Shape]], layout: Layout, source: str) -> None:
    """Raises `UserError` unless a layout has exactly the expected tensors, with valid dtypes.

    All floating-point tensors must have the dtype of `pos_embed`. `source` names the file in messages.
    """
    expected_names = set()
    floats = layout["pos_embed"][0] if "pos_embed" in layout else None
    for name, shape in expected:
        if name not in layout:
            raise UserError(f"{source}: {name} is missing; it must have the shape {shape}")
        dtype, actual_shape = layout[name]
        if actual_shape != shape:
            raise UserError(f"{source}: {name} must have the shape {shape}, got {describe(actual_shape)}")
        if name.endswith(_COUNTER):
            if dtype != "I64":
                raise UserError(f"{source}: {name} must be of type I64, got {_shown(dtype)}")
        elif dtype not in _FLOATS:
            raise UserError(f"{source}: {name} must be of type {', '.join(_FLOATS)}, got {_shown(dtype)}")
        elif dtype != floats:
            raise UserError(f"{source}: {name} must be of the type {floats} of pos_embed, got {dtype}")
        expected_names.add(name)
    unknown = next((name for name in layout if name not in expected_names), None)
    if unknown is not None:
        raise UserError(f"{source}: {_shown(unknown)} is not part of what is described")


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Raises `UserError` naming the first tensor that holds a number that is not finite."""
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{source}: {_shown(name)} holds numbers that are not finite: its training diverged")


def _shown(name: str) -> str:
    return printable(name, 200)


def on_meta_device(build: Callable[[], Module]) -> Module:
    """Returns what `build` returns, on the meta device: shapes without values. Draws no random numbers."""
    with torch.device("meta"), _WithoutInitialisation():
        return build()


def with_empty_tensors(module: Module, device: torch.device) -> Module:
    """Gives a module of the meta device uninitialised tensors on a device, as `to_empty` does.

    `to_empty` calls `torch.empty_like`, which for the meta device is written in Python. It imports SymPy, for a third
    of a second.
    """
    module._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device=device))  # type: ignore[no-untyped-call]
    return module


class _WithoutInitialisation(TorchFunctionMode):
    """Leaves out the initialisation of layers: without values it does nothing, and takes a quarter of the time.

    It would also import torch's compiler, for a second.
    """

    INITIALISERS = frozenset(
        {
            nn.init.kaiming_uniform_,
            nn.init.uniform_,
            nn.init.normal_,
            nn.init.constant_,
            Tensor.normal_,
            Tensor.uniform_,
        }
    )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self.INITIALISERS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
