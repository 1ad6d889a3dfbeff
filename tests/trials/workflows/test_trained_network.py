"""What a user names as a trained network: directories, results with weights beside them, weights alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.result_file import write_result
from sret_nas.errors import UserError
from sret_nas.nn.network import SReT
from tests.trials.workflows.shipped_model import ARCH, NAMES, PREPROCESSING, write_digits_model
from trials.data import DataConfig, prepare
from trials.data.whole_images import WholeImages
from trials.workflows.trained_network import load_trained, match_classes

TARGET = ARCH.model_copy(update={"image_size": 64, "classes": 100})


def result(path: Path, arch: ArchConfig, **provenance: object) -> Path:
    write_result(path, arch, metrics={}, recipe={}, provenance=provenance)
    return path


@pytest.mark.parametrize("inside", ["", "best", "last"])
def test_a_model_directory_or_a_training_s_run(inside: str, tmp_path: Path) -> None:
    write_digits_model(tmp_path / "run" / inside)
    trained = load_trained(tmp_path / "run")
    assert trained.network.arch == ARCH
    assert trained.preprocessing == PREPROCESSING
    assert trained.class_names == NAMES
    assert trained.reads == (tmp_path / "run" / inside,)


def test_the_weights_of_a_model_directory_are_read_with_what_it_says_of_them(tmp_path: Path) -> None:
    write_digits_model(tmp_path / "model", tuple(reversed(NAMES)))
    trained = load_trained(tmp_path / "model" / "model.safetensors")
    assert trained.preprocessing == PREPROCESSING
    assert trained.class_names == tuple(reversed(NAMES))
    assert trained.reads == (tmp_path / "model",)


@pytest.mark.parametrize("name", ["m.onnx", "m.PT2", "m.xml", "folder/model.xml"])
def test_exported_models_are_for_predict_alone(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"PK\x03\x04")
    path = file.parent if file.parent != tmp_path else file
    with pytest.raises(UserError) as error:
        load_trained(path)
    assert str(error.value) == f"{path}: is an exported model, which `predict` alone takes: name what it was made of"
    file.unlink()
    with pytest.raises(UserError, match=r"there is no such file|must be a model directory"):
        load_trained(path)


def test_a_search_s_result_has_the_weights_of_its_proxy_and_the_constants_of_its_images(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "1"
    weights = run / "weights" / "trial-0001.safetensors"
    SReT(ARCH).save(weights)
    data = prepare(DataConfig(image_size=16, max_train=50, max_val=20, max_test=20), tmp_path / "runs/prepared-data/a")
    named = {"proxy_weights": "weights/trial-0001.safetensors", "data_digest": data.digest}
    for path in (run, result(run / "best.yaml", TARGET, **named), result(run / "pareto" / "1.yaml", TARGET, **named)):
        if path == run:
            result(run / "best.yaml", TARGET, **named)
        trained = load_trained(path)
        assert trained.network.arch == ARCH
        assert trained.preprocessing is not None
        assert (trained.preprocessing.mean, trained.preprocessing.std) == (data.mean, data.std)
        assert trained.class_names == data.class_names
        assert weights in trained.reads
        assert f"the proxy that was trained in place of {TARGET.arch_id}" in trained.notes[-1]


def test_weights_beside_a_result(tmp_path: Path) -> None:
    SReT(ARCH).save(tmp_path / "mine.safetensors")
    trained = load_trained(result(tmp_path / "mine.yaml", ARCH, data_digest="of no prepared images"))
    assert trained.notes == (f"Weights: {tmp_path / 'mine.safetensors'}",)
    assert trained.preprocessing is None


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", 7, None])
def test_a_result_names_no_weights_outside_its_run(name: object, tmp_path: Path) -> None:
    SReT(ARCH).save(tmp_path / "outside.safetensors")
    with pytest.raises(UserError, match=r"mine\.yaml: has no trained weights beside it"):
        load_trained(result(tmp_path / "run" / "mine.yaml", ARCH, weights=name))


def test_constants_and_names_of_a_data_set(tmp_path: Path) -> None:
    SReT(ARCH).save(tmp_path / "mine.safetensors")
    images = WholeImages.find(DataConfig(source="digits"))
    trained = load_trained(tmp_path / "mine.safetensors").with_images_of(images)
    assert trained.preprocessing is not None
    assert (trained.preprocessing.mean, trained.preprocessing.std) == images.mean_and_std(1)
    assert trained.class_names == NAMES
    SReT(ARCH.model_copy(update={"classes": 9})).save(tmp_path / "nine.safetensors")
    nine = load_trained(tmp_path / "nine.safetensors")
    with pytest.raises(UserError, match=r"digits: has 10 classes, but .* has 9, without names"):
        nine.with_images_of(images)


def test_a_data_set_completes_what_is_not_known(tmp_path: Path) -> None:
    SReT(ARCH).save(tmp_path / "mine.safetensors")
    images = WholeImages.find(DataConfig(source="digits"))
    bare = load_trained(tmp_path / "mine.safetensors")
    completed = bare.with_mean_and_std((0.25,), (0.5,)).completed_by(images)
    assert completed.preprocessing is not None
    assert (completed.preprocessing.mean, completed.preprocessing.std) == ((0.25,), (0.5,))
    assert completed.class_names == NAMES
    assert bare.completed_by(images).preprocessing == bare.with_images_of(images).preprocessing
    assert completed.completed_by(images) is completed


@pytest.mark.slow
def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    write_digits_model(tmp_path / "model")
    trained = load_trained(tmp_path / "model")
    label_of, names = match_classes(trained, ("3", "1"), "data")
    assert label_of.tolist() == [3, 1]
    assert names == NAMES
    with pytest.raises(UserError, match="data: its classes 'x' are none of the 10 of"):
        match_classes(trained, ("3", "x"), "data")
