"""Exported networks. Writing them takes seconds, and is done where they are needed alone."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import torch

from sret_nas.nn.export import trace, write_onnx, write_openvino, write_torch_export
from sret_nas.nn.exported_info import ExportedInfo
from sret_nas.nn.exported_model import open_exported
from sret_nas.nn.network import SReT
from tests.foreign_files.networks import CLASSES, PREPROCESSING
from tests.foreign_files.small import TINY, Kind, beside, files_in

ONNX, TORCH_EXPORT, OPENVINO, OPENVINO_WEIGHTS = "m.onnx", "m.pt2", "model.xml", "model.bin"


@functools.cache
def _exported() -> dict[str, bytes]:
    torch.manual_seed(0)
    info = ExportedInfo(architecture=TINY, preprocessing=PREPROCESSING, class_names=CLASSES)
    program = trace(SReT(TINY))
    with tempfile.TemporaryDirectory() as folder:
        write_torch_export(program, Path(folder, TORCH_EXPORT), info)
        write_onnx(program, Path(folder, ONNX), info, 20)
        write_openvino(Path(folder, ONNX), Path(folder, OPENVINO), info)
        return files_in(Path(folder))


def _read(path: Path, name: str) -> None:
    """Opens a model and runs it, as `predict` does."""
    openvino = {file: content for file, content in _exported().items() if file.startswith("model.")}
    folder = beside(path, name, openvino if name in openvino else {})
    model = open_exported(folder / (OPENVINO if name in openvino else name), threads=1)
    if model.input_shape == (None, 3, 32, 32):
        model.run(torch.zeros(1, 3, 32, 32))


KINDS = {
    what: Kind(lambda name=name: _exported()[name], lambda path, name=name: _read(path, name))  # type: ignore[misc]
    for what, name in (
        ("ONNX model", ONNX), ("torch.export model", TORCH_EXPORT), ("OpenVINO model", OPENVINO),
        ("OpenVINO weights", OPENVINO_WEIGHTS),
    )
}  # fmt: skip
