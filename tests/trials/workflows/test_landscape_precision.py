"""`landscape` of networks whose weights were saved in half precision."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli import main
from sret_nas.nn.model_directory import ModelInfo, write_model
from sret_nas.nn.network import SReT
from tests.trials.workflows.shipped_model import ARCH, NAMES, PREPROCESSING


@pytest.mark.slow
def test_weights_of_half_precision_are_computed_in_float32(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in NAMES[:2]:
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(6):
            Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / f"data/{name}/{index}.png")
    write_model(tmp_path / "half", SReT(ARCH).half(), ModelInfo(preprocessing=PREPROCESSING, class_names=NAMES))
    options = ["--images", "2", "--points", "3", "--pairs", "1", "--surfaces", "0", "--workers", "0", "--loss", "plain"]
    out = tmp_path / "out"
    assert (
        main(["landscape", str(tmp_path / "half"), "--data", str(tmp_path / "data"), *options, "--out", str(out)]) == 0
    )
    (plain,) = json.loads((out / "landscape.json").read_text())["landscapes"]
    assert np.isfinite(plain["pairs"][0]["first"]).all()
