"""`export` of a network that is used at another image size than it was trained at."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest
import torch

from cli import main
from sret_nas.nn.model_directory import ModelInfo, write_model
from sret_nas.nn.network import SReT
from tests.trials.workflows.shipped_model import ARCH, NAMES, PREPROCESSING
from trials.workflows import export_latency

torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.parametrize("data", [[], ["--data", "digits"]])
def test_the_exported_file_takes_images_of_the_size_of_its_metadata(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export_latency, "MAX_PASSES", 1)
    torch.manual_seed(0)
    network = SReT(ARCH).eval()
    seen = PREPROCESSING.model_copy(update={"image_size": 24})
    write_model(tmp_path / "model", network, ModelInfo(preprocessing=seen, class_names=NAMES))
    assert main(["export", str(tmp_path / "model"), "--onnx", str(tmp_path / "m.onnx"), "--threads", "1", *data]) == 0
    assert "resized from 16 to 24 px" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["sret_nas.preprocessing"])["image_size"] == 24
    assert json.loads(metadata["sret_nas.architecture"])["image_size"] == 24
    images = torch.randn(2, 1, 24, 24)
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(logits), network(images), rtol=0, atol=1e-4)
