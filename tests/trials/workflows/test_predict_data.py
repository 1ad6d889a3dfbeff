"""`predict --data` completes what an exported file does not say, as it does for networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cli import main
from sret_nas.nn.export import trace, write_torch_export
from sret_nas.nn.exported_info import ExportedInfo
from sret_nas.nn.model_directory import Preprocessing
from sret_nas.nn.network import SReT
from tests.trials.workflows.shipped_model import ARCH, NAMES, PREPROCESSING, write_digits_model
from tests.trials.workflows.test_predict import stranger

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> SReT:
    return write_digits_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def exported(path: Path, network: SReT, preprocessing: Preprocessing | None, names: tuple[str, ...] | None) -> Path:
    write_torch_export(
        trace(network), path, ExportedInfo(architecture=ARCH, preprocessing=preprocessing, class_names=names)
    )
    return path


def predictions(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert main(["predict", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["predictions"]


@pytest.mark.slow
def test_files_without_metadata_are_used_as_their_networks_are(
    network: SReT, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network.save(tmp_path / "weights.safetensors")
    bare = exported(tmp_path / "bare.pt2", network, None, None)
    expected = predictions(capsys, tmp_path / "weights.safetensors", image, "--data", "digits")
    found = predictions(capsys, bare, image, "--data", "digits")
    assert [one["class"] for one in found] == [one["class"] for one in expected]
    assert [one["probability"] for one in found] == pytest.approx([one["probability"] for one in expected], abs=1e-5)
    unnamed = exported(tmp_path / "unnamed.pt2", network, PREPROCESSING, None)
    named = exported(tmp_path / "named.pt2", network, PREPROCESSING, NAMES)
    of_named = predictions(capsys, named, image)
    assert predictions(capsys, unnamed, image, "--data", "digits") == of_named
    assert predictions(capsys, unnamed, image) == [{**one, "class": str(one["index"])} for one in of_named]
    assert predictions(capsys, bare, image, "--mean", "0.3", "--std", "0.35", "--data", "digits")


def test_files_of_other_programs(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their classes are counted when they run."""
    for name in ("ant", "bee", "cow"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(5):
            pixels = np.random.default_rng(index).integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.png")
    model = stranger(tmp_path / "m.onnx", None, "channels")
    found = predictions(capsys, model, image, "--data", tmp_path / "data")
    assert {one["class"] for one in found} == {"ant", "bee", "cow"}
    (tmp_path / "data" / "cow").rename(tmp_path / "cow")
    assert main(["predict", str(model), str(image), "--data", str(tmp_path / "data")]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {tmp_path / 'data'}: has 2 classes, but {model} has 3, without names\n"
