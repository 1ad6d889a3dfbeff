"""Post-training quantisation of an ONNX file to 8 bits by onnxruntime: linear layers and convolutions.

Weights have a scale per output channel, activations one per tensor, from the values that calibration images give.
Scales are written as QuantizeLinear and DequantizeLinear (QDQ), which every runtime understands. Products of attention,
LayerNorm, softmax and GELU stay in float32.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sret_nas.nn.export import INPUT, require
from sret_nas.nn.exported_info import ExportedInfo

QUANTIZED = ("Conv", "Gemm", "MatMul")
"""Operators whose weights are quantised."""


def quantize_onnx(fp32: Path, int8: Path, info: ExportedInfo, batches: Iterable[npt.NDArray[np.float32]]) -> None:
    """Writes the ONNX file `fp32` with weights and activations of 8 bits as `int8`.

    Args:
        fp32: The file to quantise.
        int8: The file to write.
        info: The metadata of the new file.
        batches: Standardised images (B, channels, side, side), from which the ranges of activations are taken.

    Raises `UserError` if a library is missing, and `OSError` if a file cannot be written.
    """
    require("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = int8.with_suffix(".prepared.onnx")
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        quant_pre_process(fp32, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            int8,
            _Calibration(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_without_weights(onnx.load(prepared).graph),
        )
    finally:
        logging.disable(disabled)
        prepared.unlink(missing_ok=True)
    model = onnx.load(int8)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, info.model_copy(update={"precision": "int8"}).to_entries())
    int8.write_bytes(model.SerializeToString())


def _without_weights(graph: Any) -> list[str]:
    """Returns the names of the products of two activations: those of attention."""
    weights = {tensor.name for tensor in graph.initializer}
    weights |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    return [node.name for node in graph.node if node.op_type == "MatMul" and weights.isdisjoint(node.input)]


class _Calibration:
    """Hands images to onnxruntime, in the form of its `CalibrationDataReader`."""

    def __init__(self, batches: Iterable[npt.NDArray[np.float32]]) -> None:
        self._batches: Iterator[Any] = iter(batches)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """Returns the next input by name; None after the last."""
        images = next(self._batches, None)
        return None if images is None else {INPUT: images}
