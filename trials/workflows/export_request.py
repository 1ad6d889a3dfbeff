"""What `export` is asked for: formats, files and images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sret_nas.errors import UserError
from sret_nas.nn.export import (
    DEFAULT_OPSET,
    MAX_OPSET,
    MIN_OPSET,
    require,
)
from sret_nas.nn.exported_model import (
    OPENVINO_FILE,
)

NUM_SCORED = 1000
"""Test images on which the accuracy of 8 bits is measured, unless `--images` says otherwise."""


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What is exported, and where to."""

    source: Path
    onnx: Path | None = None
    torch_export: Path | None = None
    openvino: Path | None = None
    """A folder, for two files."""
    int8: bool = False
    with_preprocessing: bool = False
    """Whether the files take images of 8 bits and standardise them."""
    opset: int = DEFAULT_OPSET
    recursions: tuple[int, ...] | None = None
    """Largest number of recursions, one for all stages or one for each; None keeps all."""
    data: str | None = None
    data_root: str | None = None
    split_seed: int = 0
    images: int = NUM_SCORED
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    threads: int = 1
    force: bool = False

    def check(self) -> None:
        """Raises `UserError` for options that contradict each other, or a library that is missing."""
        if not self.outputs:
            raise UserError("name what to write: --onnx FILE, --torch-export FILE or --openvino DIR")
        for option, path, ending in (("--onnx", self.onnx, ".onnx"), ("--torch-export", self.torch_export, ".pt2")):
            if path is not None and path.suffix != ending:
                raise UserError(f"{option} must name a {ending} file, got {path}")
        if not MIN_OPSET <= self.opset <= MAX_OPSET:
            raise UserError(f"--opset must be from {MIN_OPSET} to {MAX_OPSET}, got {self.opset}")
        if self.int8 and self.onnx is None:
            raise UserError("--int8 quantises the ONNX file: name it with --onnx")
        if self.int8 and self.data is None:
            raise UserError("--int8 needs images to calibrate on: name those of the training with --data")
        if self.int8 and self.with_preprocessing:
            raise UserError(
                "--int8 and --with-preprocessing exclude each other: 8 bits are calibrated on float32 images"
            )
        if self.data_root is not None and self.data is None:
            raise UserError("--data-root goes with the name of a torchvision data set, which --data must give")
        if (self.mean is None) != (self.std is None):
            raise UserError("--mean and --std go together")
        if self.onnx is not None or self.openvino is not None:
            require("onnx", "onnxscript", "onnxruntime")
        if self.openvino is not None:
            require("openvino")

    @property
    def outputs(self) -> dict[str, list[Path]]:
        """The files to write, by the option that names them."""
        by_option = {
            "--onnx": [] if self.onnx is None else [self.onnx, data_file(self.onnx)],
            "--torch-export": [] if self.torch_export is None else [self.torch_export],
            "--openvino": [] if self.openvino is None else [self.openvino / name for name in OPENVINO_FILES],
        }
        return {option: paths for option, paths in by_option.items() if paths}


OPENVINO_FILES = (OPENVINO_FILE, str(Path(OPENVINO_FILE).with_suffix(".bin")))


def data_file(path: Path) -> Path:
    """Returns the file beside an ONNX file that holds its weights if they are too large for it."""
    return path.with_name(f"{path.name}.data")
