"""Turns a network into what runs without this package: a program of torch.export, ONNX, OpenVINO.

All of them take images (batch, channels, side, side), float32 and standardised, and give logits (batch, classes). With
preprocessing, they take these images with 8 bits per channel, and standardise them themselves. The batch is free; it is
traced with two images, because torch.export takes a batch of one for a constant. Traces name the files of the machine
that made them, which are left out.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sret_nas.errors import UserError
from sret_nas.files import write_atomically
from sret_nas.nn.exported_info import ExportedInfo
from sret_nas.nn.model_directory import Preprocessing
from sret_nas.nn.network import SReT

INPUT, OUTPUT = "images", "logits"
"""Names of the input and the output."""

DEFAULT_OPSET = 20
MIN_OPSET = 18
"""Torch's exporter writes no lower one. From 23 on, attention is one operator."""
MAX_OPSET = 25
"""The highest opset that torch's exporter, onnxscript and onnxruntime know together."""

MAX_SINGLE_FILE = 2 * 10**9
"""Most bytes of weights in one ONNX file. Protocol buffers end at 2 GiB; more weights go to a file beside it."""


def install_hint(library: str) -> str:
    """Returns what to install for a library of the extras."""
    extra = "openvino" if library == "openvino" else "export"
    return f"needs {library}, which is not installed: pip install 'sret-nas[{extra}]'"


def cut_recursions(network: SReT, limit: int | Sequence[int]) -> SReT:
    """Returns the network of `arch.with_max_recursions(limit)` with these weights, without those that are left over.

    It computes what `network(images, max_recursions=limit)` does. Raises `UserError` for a limit that does not fit.
    """
    try:
        arch = network.current_arch.with_max_recursions(limit)
    except ValueError:
        number = len(network.arch.stages)
        words = str(limit) if isinstance(limit, int) else ",".join(map(str, limit))
        raise UserError(
            f"recursions must be one positive number, or one for each of the {number} stages, got {words}"
        ) from None
    shallow = SReT.empty(arch, network.pos_embed.device, network.pos_embed.dtype)
    state = network.state_dict()
    shallow.load_state_dict({name: state[name] for name in shallow.state_dict()})
    return shallow.train(network.training)


class WithStandardisation(torch.nn.Module):
    """A network that takes images with 8 bits per channel (B, channels, side, side), uint8, and standardises them."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: SReT, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(preprocessing.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(preprocessing.std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits (B, classes)."""
        logits: Tensor = self.network((images.float() / 255 - self.mean) / self.std)
        return logits


def trace(network: SReT, preprocessing: Preprocessing | None = None) -> torch.export.ExportedProgram:
    """Returns the network's program in evaluation mode and float32, for any number of images of its size.

    With `preprocessing`, the program takes images of 8 bits and standardises them.
    """
    network = network.float().eval()
    arch = network.current_arch
    images = torch.zeros(2, arch.channels, arch.image_size, arch.image_size)
    traced: torch.nn.Module = network
    if preprocessing is not None:
        traced, images = WithStandardisation(network, preprocessing).eval(), images.to(torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.export.export(traced, (images,), dynamic_shapes={INPUT: {0: batch}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of this machine
    return program


def write_torch_export(program: torch.export.ExportedProgram, path: Path, info: ExportedInfo) -> None:
    """Writes a program as a `.pt2` file of torch.export. Raises `OSError` if it cannot be written."""
    # Torch writes files in C++, where a full disk is an error without a cause.
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer, extra_files=info.to_entries())
    write_atomically(path, buffer.getvalue())


def write_onnx(program: torch.export.ExportedProgram, path: Path, info: ExportedInfo, opset: int) -> None:
    """Writes a program as ONNX. More weights than `MAX_SINGLE_FILE` go to `PATH.data` beside it.

    Raises `UserError` if the opset is not supported, and `OSError` if the file cannot be written.
    """
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise UserError(f"--opset must be from {MIN_OPSET} to {MAX_OPSET}, got {opset}")
    require("onnxscript")
    with _quiet():
        # A program's own names of dimensions are lost here, so `dynamic_shapes` gives the batch its name again.
        onnx_program = torch.onnx.export(
            program, (), dynamo=True, opset_version=opset, input_names=[INPUT], output_names=[OUTPUT], verbose=False,
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
        )  # fmt: skip
    assert onnx_program is not None  # None is for exports that write a file
    model: Any = onnx_program.model
    if model.opset_imports[""] != opset:
        raise UserError(
            f"torch {torch.__version__} cannot export --opset {opset}: take {DEFAULT_OPSET}, or a newer torch"
        )
    _remove_traces(model)
    model.metadata_props.update(info.to_entries())
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if size > MAX_SINGLE_FILE:
        onnx_program.save(path, external_data=True)
    else:
        write_atomically(path, onnx_program.model_proto.SerializeToString())


def _remove_traces(model: Any) -> None:
    """Removes what torch's exporter notes on every node, e.g. files and lines: four fifths of a small file."""
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def write_openvino(onnx_file: Path, path: Path, info: ExportedInfo) -> None:
    """Writes an ONNX file as an OpenVINO model: `path` (`.xml`), and the weights (`.bin`) beside it, in float32.

    Raises `OSError` if it cannot be written.
    """
    require("openvino")
    import openvino

    model = openvino.Core().read_model(onnx_file)
    for key, text in info.to_entries().items():
        model.set_rt_info(text, key.split("."))
    try:
        openvino.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(f"{path}: cannot be written: {_last_line(error)}") from None


def require(*libraries: str) -> None:
    """Imports libraries of the extras. Raises `UserError` that says what to install if one is missing."""
    from importlib import import_module

    for library in libraries:
        try:
            with _quiet():
                import_module(library)
        except ModuleNotFoundError as error:
            if error.name != library:
                raise
            raise UserError(f"this {install_hint(library)}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses warnings and log lines of torch, onnxscript and what they use."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
