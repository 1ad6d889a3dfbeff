"""What exported files of other programs give: logits, probabilities already, or nothing that `predict` can use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from cli import main
from sret_nas.nn.model_directory import Preprocessing
from trials.data.image_files import read_image_file

torch.set_num_threads(1)

CONSTANTS = ["--mean", "0.4,0.4,0.4", "--std", "0.2,0.2,0.2"]


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def means_then(path: Path, operator: str, kind: int = TensorProto.FLOAT, **attributes: Any) -> Path:
    """Returns an ONNX file that gives the mean of each channel after one more operator."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["means"], keepdims=0),
        helper.make_node(operator, ["means"], ["y"], **attributes),
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, 20, 20])
    graph = helper.make_graph(nodes, "g", [image], [helper.make_tensor_value_info("y", kind, None)], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def means_of(image: Path) -> torch.Tensor:
    how = Preprocessing(image_size=20, mean=(0.4,) * 3, std=(0.2,) * 3)
    return torch.from_numpy(read_image_file(image, how)).mean((1, 2))


@pytest.mark.parametrize("operator", ["Identity", "Softmax"])
def test_probabilities_are_not_taken_for_logits(
    operator: str, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = means_then(tmp_path / "m.onnx", operator)
    assert main(["predict", str(model), *map(str, images), *CONSTANTS, "--json"]) == 0
    for image, line in zip(images, capsys.readouterr().out.splitlines(), strict=True):
        expected = means_of(image).softmax(0).sort(descending=True)[0].tolist()
        found = [one["probability"] for one in json.loads(line)["predictions"]]
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.UINT8])
def test_whole_numbers_are_no_logits(
    kind: int, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = means_then(tmp_path / "m.onnx", "Cast", kind, to=kind)
    assert main(["predict", str(model), str(images[0]), *CONSTANTS]) == 2
    word = {TensorProto.INT64: "int64", TensorProto.UINT8: "uint8"}[kind]
    assert f"must give logits as floating-point numbers, got {word}" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_numbers_that_are_not_finite_are_named_with_their_image(
    flags: list[str], images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = means_then(tmp_path / "m.onnx", "Log")
    black = tmp_path / "black.png"
    Image.new("RGB", (20, 20)).save(black)
    assert main(["predict", str(model), str(images[0]), str(black), *CONSTANTS, *flags]) == 2
    captured = capsys.readouterr()
    assert "nan" not in captured.out.lower()
    assert captured.err == (
        f"error: {model}: gives numbers that are not finite for {black}: its weights, or the mean and deviation of "
        "its images, are out of range\n"
    )
