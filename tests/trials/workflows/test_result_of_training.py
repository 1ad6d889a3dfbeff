"""A training's `result.yaml`, whose weights lie in a model directory: everything that directory says is known."""

from __future__ import annotations

from pathlib import Path

from sret_nas.arch.result_file import write_result
from sret_nas.nn.model_directory import ModelInfo, write_model
from sret_nas.nn.network import SReT
from tests.trials.workflows.shipped_model import ARCH, NAMES, PREPROCESSING, write_digits_model
from trials.workflows.trained_network import load_trained


def test_preprocessing_names_and_recipe_are_those_of_the_model_directory(tmp_path: Path) -> None:
    info = ModelInfo(preprocessing=PREPROCESSING, class_names=NAMES, recipe={"epochs": 3})
    write_model(tmp_path / "best", SReT(ARCH), info)
    path = tmp_path / "result.yaml"
    write_result(path, ARCH, metrics={}, recipe={}, provenance={"weights": "best/model.safetensors"})
    trained, whole = load_trained(path), load_trained(tmp_path)
    assert (trained.preprocessing, trained.class_names, trained.recipe) == (PREPROCESSING, NAMES, {"epochs": 3})
    assert (whole.preprocessing, whole.class_names, whole.recipe) == (PREPROCESSING, NAMES, {"epochs": 3})
    assert trained.path == path
    assert trained.reads == (path, tmp_path / "best")
    assert trained.notes == (f"Weights: {tmp_path / 'best' / 'model.safetensors'}",)


def test_weights_of_that_name_alone_say_nothing(tmp_path: Path) -> None:
    write_digits_model(tmp_path / "best")
    (tmp_path / "best" / "config.json").unlink()
    path = tmp_path / "result.yaml"
    write_result(path, ARCH, metrics={}, recipe={}, provenance={"weights": "best/model.safetensors"})
    assert load_trained(path).preprocessing is None
