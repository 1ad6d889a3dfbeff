"""Quantisation to 8 bits: the file is smaller, has scales per channel, and gives nearly the same logits."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import nn

from sret_nas.nn.exported_model import open_exported
from sret_nas.nn.quantization import quantize_onnx
from tests.sret_nas.nn.conftest import Exported, largest_difference


def test_weights_have_8_bits_and_a_scale_per_channel(exported: Exported, tmp_path: Path) -> None:
    torch.manual_seed(1)
    quantised = tmp_path / "int8.onnx"
    batches = [exported.images(4).numpy() for _ in range(4)]
    quantize_onnx(exported.onnx, quantised, exported.info, batches)
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]

    model = open_exported(quantised, threads=1)
    assert model.info == exported.info.model_copy(update={"precision": "int8"})
    for number in (1, 7):
        difference = largest_difference(model.run, exported.network, exported.images(number))
        assert 0 < difference < 0.1

    graph = onnx.load(quantised).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm", "Conv")]
    weights = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants]
    eight_bits = [node for node in weights if constants[node.input[0]].data_type == onnx.TensorProto.INT8]
    assert all(max(constants[node.input[1]].dims, default=1) > 1 for node in eight_bits)
    names = {node.output[0] for node in eight_bits}
    layers = [module for module in exported.network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert len(names & {name for node in products for name in node.input}) == len(layers)
    attention = [node for node in products if names.isdisjoint(node.input)]
    assert {node.op_type for node in attention} == {"MatMul"}
    assert not any("DequantizeLinear" in name for node in attention for name in node.input)
