"""Exported networks as they run in production: by onnxruntime, by torch without this package's code, by OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sret_nas.bounded_files import require_regular
from sret_nas.errors import UserError
from sret_nas.nn.export import require
from sret_nas.nn.exported_info import PREFIX, ExportedInfo
from sret_nas.nn.exported_program_file import read_exported_program
from sret_nas.nn.model_directory import Preprocessing, holds_model

OPENVINO_FILE = "model.xml"
"""The file of a folder with an OpenVINO model; its weights are in `model.bin`."""

FORMATS = {".onnx": "ONNX", ".pt2": "torch.export", ".xml": "OpenVINO"}


@dataclass(frozen=True)
class ExportedModel:
    """An exported network that is ready to run."""

    name: str
    """The format, and what runs it."""
    run: Callable[[Tensor], Tensor]
    """Maps images (B, channels, side, side) on the CPU, float32 or, if `info.pixels` says so, uint8, to logits."""
    input_shape: tuple[int | None, ...]
    """(batch, channels, height, width); None where any size will do."""
    info: ExportedInfo | None
    """None if the file was not written by this package."""


def to_pixels(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Returns standardised images (B, channels, side, side), float32, as the uint8 images that they were."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def from_pixels(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Returns uint8 images (B, channels, side, side) standardised, float32."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return (pixels.float() / 255 - mean) / std


def is_exported(path: Path) -> bool:
    """Returns whether a path names an exported model, by its ending or, for a folder, by its files.

    A folder of ours names its network, even if an OpenVINO model was exported into it.
    """
    if path.suffix.lower() in FORMATS:
        return True
    return (path / OPENVINO_FILE).is_file() and not (holds_model(path) or (path / "best.yaml").is_file())


def open_exported(path: Path, threads: int) -> ExportedModel:
    """Returns the model in a file that `is_exported` recognises.

    Raises `UserError` if it cannot be read, or what runs it is not installed.
    """
    if path.is_dir():
        return open_openvino(path / OPENVINO_FILE, threads)
    open_one = {".onnx": open_onnx, ".pt2": open_torch_export, ".xml": open_openvino}[path.suffix.lower()]
    return open_one(path, threads)


def open_onnx(path: Path, threads: int) -> ExportedModel:
    """Returns the model in an ONNX file, run by onnxruntime on the CPU. Raises `UserError`."""
    require_regular(path)
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are exceptions too
    try:
        # With its fallback, onnxruntime would print what is wrong, and try the same again.
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        entries = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise UserError(f"{path}: cannot be read as an ONNX model: {_reason(error)}") from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    info = ExportedInfo.from_entries(entries, str(path))
    expected = "float" if info is None or info.pixels is None else info.pixels
    if len(inputs) != 1 or inputs[0].type != f"tensor({expected})":
        kind = "float32" if expected == "float" else expected
        raise UserError(f"{path}: must have one input of {kind} images, got {_listed(inputs)}")

    def run(images: Tensor) -> Tensor:
        logits = session.run([outputs[0].name], {inputs[0].name: images.contiguous().numpy()})[0]
        return torch.from_numpy(logits)

    shape = tuple(size if isinstance(size, int) else None for size in inputs[0].shape)
    return ExportedModel("ONNX, onnxruntime", run, shape, info)


def open_torch_export(path: Path, threads: int) -> ExportedModel:
    """Returns the model in a file of torch.export, run by torch in this process. Raises `UserError`."""
    program, entries = read_exported_program(path)
    info = ExportedInfo.from_entries(entries, str(path))
    if info is None:
        raise UserError(f"{path}: must have been written by `export --torch-export`: it says nothing of its images")
    module = program.module()
    arch = info.architecture
    shape = (None, arch.channels, arch.image_size, arch.image_size)
    return ExportedModel("torch.export, torch", module, shape, info)


def open_openvino(path: Path, threads: int) -> ExportedModel:
    """Returns the OpenVINO model in an XML file, run on the CPU in float32. Raises `UserError`.

    By itself OpenVINO computes in bfloat16 on CPUs that have it, with three correct digits, and ties its threads to
    cores, where they wait for whatever else runs there.
    """
    require_regular(path)
    require("openvino")
    import openvino

    core = openvino.Core()
    try:
        model = core.read_model(path)
        compiled = core.compile_model(
            model, "CPU",
            {
                "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32",
                "ENABLE_CPU_PINNING": False,
            },
        )  # fmt: skip
        input_shape = model.input(0).partial_shape
        shape = tuple(size.get_length() if size.is_static else None for size in input_shape)
        entries = {
            f"{PREFIX}{name}": model.get_rt_info(keys).astype(str)
            for name in ExportedInfo.model_fields
            if model.has_rt_info(keys := [PREFIX.removesuffix("."), name])
        }
    except (RuntimeError, UnicodeDecodeError) as error:  # the latter for a message with bytes of the file
        raise UserError(f"{path}: cannot be read as an OpenVINO model: {_reason(error)}") from None
    request = compiled.create_infer_request()

    def run(images: Tensor) -> Tensor:
        results = request.infer([images.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(results[0].copy())

    return ExportedModel("OpenVINO", run, shape, ExportedInfo.from_entries(entries, str(path)))


def _listed(inputs: Any) -> str:
    return ", ".join(f"{one.name} of {one.type}" for one in inputs) or "none"


def _reason(error: Exception) -> str:
    """Returns the last line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
