"""`predict`: what it prints is what the network computes, and what is wrong costs one line."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import ExifTags, Image

from cli import main
from sret_nas.nn.export import trace, write_torch_export
from sret_nas.nn.exported_info import ExportedInfo
from sret_nas.nn.model_directory import Preprocessing, read_info
from sret_nas.nn.network import SReT
from tests import REPOSITORY
from tests.trials.workflows.shipped_model import ARCH, NAMES, PREPROCESSING, write_digits_model
from trials.data.image_files import read_image_file

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SReT]:
    folder = tmp_path_factory.mktemp("model") / "model"
    return folder, write_digits_model(folder)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Returns a folder with two images, one of them nested and in colour, a hidden one, and a note."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (40, 40), np.uint8)).save(folder / "grey.png")
    Image.fromarray(generator.integers(0, 256, (30, 50, 3), np.uint8)).save(folder / "more" / "colour.png")
    Image.fromarray(generator.integers(0, 256, (8, 8), np.uint8)).save(folder / ".hidden.png")
    (folder / "note.txt").write_text("no image")
    return folder


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_probabilities_are_the_network_s(
    model: tuple[Path, SReT], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, network = model
    assert main(["predict", str(directory), str(images), "--json", "--top", "10", "--recursions", "1"]) == 0
    rows = printed(capsys)
    assert [row["image"] for row in rows] == [str(images / "grey.png"), str(images / "more" / "colour.png")]
    for row in rows:
        pixels = torch.from_numpy(read_image_file(Path(str(row["image"])), PREPROCESSING))[None]
        with torch.inference_mode():
            expected = network(pixels, max_recursions=1).softmax(1)[0]
        predictions = row["predictions"]
        assert isinstance(predictions, list)
        assert [one["class"] for one in predictions] == [NAMES[one["index"]] for one in predictions]
        assert [one["index"] for one in predictions] == expected.argsort(descending=True).tolist()
        assert [one["probability"] for one in predictions] == pytest.approx(
            expected.sort(descending=True)[0].tolist(), abs=1e-6
        )


@pytest.mark.slow
def test_an_exported_model_predicts_as_the_network(
    model: tuple[Path, SReT], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, network = model
    known = read_info(directory)
    info = ExportedInfo(architecture=ARCH, preprocessing=known.preprocessing, class_names=known.class_names)
    write_torch_export(trace(network), tmp_path / "m.pt2", info)
    outputs = []
    for source in (directory, tmp_path / "m.pt2"):
        assert main(["predict", str(source), str(images), "--json"]) == 0
        outputs.append(printed(capsys))
    probabilities = [
        [prediction.pop("probability") for image in output for prediction in image["predictions"]] for output in outputs
    ]
    assert outputs[0] == outputs[1]
    assert probabilities[0] == pytest.approx(probabilities[1], abs=2e-6)  # they are rounded to six digits
    for flags, message in (
        (["--recursions", "1"], "its recursions were fixed by `export --recursions`"),
        (["--device", "cuda"], "exported models run on the CPU here, got --device cuda"),
    ):
        assert main(["predict", str(tmp_path / "m.pt2"), str(images), *flags]) == 2
        assert message in capsys.readouterr().err


def test_unreadable_images_are_named_and_the_others_predicted(
    model: tuple[Path, SReT], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = str(model[0])
    (images / "broken.png").write_bytes((images / "grey.png").read_bytes()[:200])
    assert main(["predict", directory, str(images), "--top", "2"]) == 0
    captured = capsys.readouterr()
    assert f"warning: {images / 'broken.png'}: cannot be read: " in captured.err
    assert "grey.png" in captured.out
    for missing in (images / "broken.png", images / "note.txt", images / "missing.png"):
        assert main(["predict", directory, str(missing)]) == 2
        warning, error = capsys.readouterr().err.splitlines()
        assert warning.startswith(f"warning: {missing}: ")
        assert error == "error: 1 image was named, and none can be read: mend it or name others"
        assert main(["predict", directory, str(missing), "--json"]) == 2
        captured = capsys.readouterr()
        assert "error" in json.loads(captured.out)
        assert captured.err == f"{error}\n"


def test_what_cannot_be_read_in_a_folder_is_named(
    model: tuple[Path, SReT], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "away.png").symlink_to("nothing.png")
    (images / "folder.png").mkdir()
    os.mkfifo(images / "more" / "pipe.jpg")
    assert main(["predict", str(model[0]), str(images), "--json"]) == 0
    errors = {row["image"]: row.get("error") for row in printed(capsys)}
    assert errors == {
        str(images / "away.png"): f"{images / 'away.png'}: there is no such file",
        str(images / "grey.png"): None,
        str(images / "more" / "colour.png"): None,
        str(images / "more" / "pipe.jpg"): f"{images / 'more' / 'pipe.jpg'}: cannot be read: it is a pipe, not a file",
    }


def test_classes_without_names_are_numbers(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_digits_model(tmp_path / "model", None)
    assert main(["predict", str(tmp_path / "model"), str(images / "grey.png"), "--json", "--top", "1"]) == 0
    ((prediction,),) = [row["predictions"] for row in printed(capsys)]
    assert prediction["class"] == str(prediction["index"])


def test_weights_alone_need_mean_and_deviation(
    model: tuple[Path, SReT], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes((model[0] / "model.safetensors").read_bytes())
    arguments = ["predict", str(weights), str(images / "grey.png")]
    assert main(arguments) == 2
    assert "it is not known how its images are standardised" in capsys.readouterr().err
    assert main([*arguments, "--mean", "0.3", "--std", "0.35"]) == 0
    capsys.readouterr()
    assert main([*arguments, "--data", "digits", "--json"]) == 0
    assert list(printed(capsys)[0]) == ["image", "predictions"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "image.png"], "nothing: there is no such file"),
        (["empty", "image.png"], "empty: must be a model directory"),
        (["MODEL", "empty"], "empty: must hold images"),
        (["MODEL", "empty", "--recursions", "1,1"], "empty: must hold images"),
        (["MODEL", "image.png", "--top", "0"], "must be a whole number from 1"),
        (["MODEL", "image.png", "--recursions", "1,2"], "--recursions: limit must be one positive number"),
        (["MODEL", "image.png", "--device", "gpu"], "device must be auto, cpu, cuda or cuda:NUMBER, got 'gpu'"),
        (["MODEL", "image.png", "--mean", "0.5"], "--mean and --std go together"),
        (["damaged.onnx", "image.png"], "damaged.onnx: cannot be read as an ONNX model"),
        (["damaged.pt2", "image.png"], "damaged.pt2: not a model of torch.export that can be read safely"),
    ],
)
def test_wrong_input_is_explained(
    model: tuple[Path, SReT], arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for name in ("damaged.onnx", "damaged.pt2"):
        Path(name).write_text("damaged")
    try:
        code = main(["predict", *(str(model[0]) if word == "MODEL" else word for word in arguments)])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    assert code == 2
    assert message in capsys.readouterr().err


def stranger(path: Path, batch: int | None, output: str) -> Path:
    """Returns an ONNX file of another program, which gives the mean of each channel, or of whole images."""
    over = [2, 3] if output == "channels" else [1, 2, 3]
    axes = helper.make_tensor("axes", TensorProto.INT64, [len(over)], over)
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 20, 20])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([mean], "g", [image], [result], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.mark.parametrize("batch", [None, 1])
def test_onnx_files_of_other_programs(
    batch: int | None, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(stranger(tmp_path / "m.onnx", batch, "channels"))
    assert main(["predict", model, str(images)]) == 2
    assert "it was not written by this program): give --mean and --std" in capsys.readouterr().err
    constants = ["--mean", "0,0,0", "--std", "1,1,1"]
    assert main(["predict", model, str(images), *constants, "--json"]) == 0
    for row in printed(capsys):
        preprocessing = Preprocessing(image_size=20, mean=(0.0,) * 3, std=(1.0,) * 3)
        means = torch.from_numpy(read_image_file(Path(str(row["image"])), preprocessing)).mean((1, 2)).softmax(0)
        predictions = row["predictions"]
        assert isinstance(predictions, list)
        expected = means.sort(descending=True)[0].tolist()
        assert [one["probability"] for one in predictions] == pytest.approx(expected, abs=1e-5)
    assert main(["predict", model, str(images), "--mean", "0", "--std", "1"]) == 2
    assert "must take images of the shape (batch, 1, side, side)" in capsys.readouterr().err
    model = str(stranger(tmp_path / "m.onnx", batch, "images"))
    assert main(["predict", model, str(images), *constants]) == 2
    assert "must give logits of the shape (batch, classes), got (2,)" in capsys.readouterr().err


@pytest.mark.parametrize("crop_fraction", [0.875, 1.0])
@pytest.mark.parametrize(
    ("size", "interpolation"), [((61, 40), "bicubic"), ((33, 50), "bilinear"), ((24, 27), "nearest")]
)
def test_the_program_in_the_docs_prepares_photos_as_predict_does(
    size: tuple[int, int], interpolation: Any, crop_fraction: float, tmp_path: Path
) -> None:
    text = (REPOSITORY / "docs" / "train-and-ship.md").read_text()
    (program,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def classify" in block)
    names: dict[str, Any] = {}
    exec(program, names)  # it is ours
    how = Preprocessing(
        image_size=24, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), interpolation=interpolation,
        crop_fraction=crop_fraction,
    )  # fmt: skip
    photo = tmp_path / "photo.png"
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(photo, exif=turned)
    assert np.array_equal(names["prepare"](photo, how.model_dump(mode="json"))[0], read_image_file(photo, how))
