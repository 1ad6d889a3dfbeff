"""Networks with more classes than the data: their directories name all, so that they work with these data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from sret_nas.errors import UserError
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, read_info, write_model
from sret_nas.nn.network import SReT
from tests.trials.training.tiny_training import ARCH, DATA, spec
from trials.data.whole_images import WholeImages, padded_names
from trials.distributed.processes import process_group
from trials.training import full
from trials.training.full_progress import FullProgress
from trials.training.full_state import Counts
from trials.training.teachers import load_teacher
from trials.workflows.trained_network import load_trained, match_classes


@pytest.fixture(scope="module")
def images() -> WholeImages:
    return WholeImages.find(DATA)


@pytest.mark.parametrize(
    ("names", "classes", "expected"),
    [
        (("a", "b"), 2, ("a", "b")),
        (("a", "b"), 4, ("a", "b", "class 2", "class 3")),
        (("class 3", "class 2"), 5, ("class 3", "class 2", "class 2 (2)", "class 3 (2)", "class 4")),
        (("class 1 (2)", "class 2"), 3, ("class 1 (2)", "class 2", "class 2 (2)")),
        (("class 2", "class 2 (2)"), 3, ("class 2", "class 2 (2)", "class 2 (3)")),
    ],
)
def test_names_of_spare_classes_are_unique(names: tuple[str, ...], classes: int, expected: tuple[str, ...]) -> None:
    assert padded_names(names, classes) == expected


def test_a_training_with_spare_classes_names_them(images: WholeImages, tmp_path: Path) -> None:
    arch = ARCH.model_copy(update={"classes": 12})
    with process_group("cpu") as processes, FullProgress(None, Counts(), 6, 3, Console(quiet=True)) as progress:
        training = full.FullTraining(tmp_path, spec({}, arch=arch), images, processes, None)
        training._write_model(full.BEST, training.state.evaluated, {}, progress)
    names = (*images.class_names, "class 10", "class 11")
    assert read_info(tmp_path / full.BEST).class_names == names
    label_of, known = match_classes(load_trained(tmp_path), images.class_names, "digits")
    np.testing.assert_array_equal(label_of, np.arange(10))
    assert known == names


def test_a_teacher_with_spare_classes(images: WholeImages, tmp_path: Path) -> None:
    """It teaches networks with as many on the same data."""
    torch.manual_seed(0)
    names = padded_names(images.class_names, 12)
    network = SReT(ARCH.model_copy(update={"classes": 12}))
    seen = Preprocessing(image_size=16, mean=(0.3,), std=(0.4,))
    write_model(tmp_path / "teacher", network, ModelInfo(preprocessing=seen, class_names=names))
    assert load_teacher(str(tmp_path / "teacher"), None, images.class_names, 12).classes == 12
    with pytest.raises(UserError, match="other classes than the data"):
        load_teacher(str(tmp_path / "teacher"), None, ("x", *images.class_names[1:]), 12)


@pytest.mark.slow
def test_evaluate_export_and_landscape_take_them_with_their_own_data(tmp_path: Path) -> None:
    from cli import main

    network = SReT(ARCH.model_copy(update={"classes": 12}))
    seen = Preprocessing(image_size=16, mean=(0.3,), std=(0.4,))
    info = ModelInfo(preprocessing=seen, class_names=padded_names(tuple("0123456789"), 12))
    model = str(tmp_path / "model")
    write_model(tmp_path / "model", network, info)
    limits = ["--max-train-images", "20", "--max-val-images", "20", "--max-test-images", "20", "--threads", "1"]
    assert main(["evaluate", model, "--data", "digits", *limits, "--no-latency", "--out", str(tmp_path / "ev")]) == 0
    assert main(["export", model, "--data", "digits", "--torch-export", str(tmp_path / "m.pt2"), "--threads", "1"]) == 0
    points = ["--images", "2", "--points", "3", "--pairs", "1", "--surfaces", "0", "--workers", "0", "--loss", "plain"]
    assert main(["landscape", model, "--data", "digits", *points, "--out", str(tmp_path / "landscape")]) == 0
