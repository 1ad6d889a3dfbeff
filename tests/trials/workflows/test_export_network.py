"""`export`, from the command line to files that others run; whatever is wrong leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from cli import main
from sret_nas.arch.presets import PRESETS
from sret_nas.nn.exported_model import open_exported
from sret_nas.nn.network import SReT
from sret_nas.yaml_files import dump_yaml
from tests.full_disk import largest_file
from tests.trials.workflows.shipped_model import PREPROCESSING, write_digits_model
from trials.data import DataConfig
from trials.data.image_files import image_batches
from trials.data.whole_images import WholeImages
from trials.workflows import export_latency, export_network

torch.set_num_threads(1)


@dataclass(frozen=True)
class Shipped:
    """A model directory, and what one command made of it."""

    model: Path
    network: SReT
    onnx: Path
    pt2: Path
    openvino: Path
    output: str


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SReT]:
    folder = tmp_path_factory.mktemp("model") / "model"
    return folder, write_digits_model(folder)


@pytest.fixture(scope="module")
def shipped(model: tuple[Path, SReT], tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    directory, network = model
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_latency, "MAX_PASSES", 1)
        with redirect_stdout(StringIO()) as output:
            code = main(
                [
                    "export", str(directory), "--onnx", str(out / "new" / "m.onnx"), "--int8", "--data", "digits",
                    "--images", "100", "--torch-export", str(out / "m.pt2"), "--openvino", str(out / "openvino"),
                    "--recursions", "1",
                ]
            )  # fmt: skip
    assert code == 0
    return Shipped(directory, network, out / "new" / "m.onnx", out / "m.pt2", out / "openvino", output.getvalue())


@pytest.fixture(scope="module")
def taking_pixels(model: tuple[Path, SReT], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of files that standardise images themselves, compared with the network on generated images."""
    out = tmp_path_factory.mktemp("pixels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_latency, "MAX_PASSES", 1)
        with redirect_stdout(StringIO()):
            code = main(
                [
                    "export", str(model[0]), "--with-preprocessing", "--onnx", str(out / "m.onnx"), "--torch-export",
                    str(out / "m.pt2"), "--openvino", str(out / "openvino"),
                ]
            )  # fmt: skip
    assert code == 0
    return out


def test_images_of_8_bits_go_into_the_file_as_they_are(taking_pixels: Path, model: tuple[Path, SReT]) -> None:
    part = WholeImages.find(DataConfig(source="digits")).test
    squares = [part.load(index, "L").resize((PREPROCESSING.image_size,) * 2) for index in range(7)]
    pixels = np.stack([np.asarray(square, np.uint8)[None] for square in squares])
    standardised = (torch.from_numpy(pixels).float() / 255 - PREPROCESSING.mean[0]) / PREPROCESSING.std[0]
    with torch.inference_mode():
        expected = model[1].eval()(standardised)
    session = onnxruntime.InferenceSession(taking_pixels / "m.onnx")
    assert session.get_inputs()[0].type == "tensor(uint8)"
    program = torch.export.load(taking_pixels / "m.pt2").module()
    for batch in (1, 7):
        (logits,) = session.run(["logits"], {"images": pixels[:batch]})
        assert np.allclose(logits, expected[:batch], atol=1e-4)
        assert torch.allclose(program(torch.from_numpy(pixels[:batch])), expected[:batch], atol=1e-4)


@pytest.mark.parametrize("name", ["m.onnx", "m.pt2", "openvino"])
def test_predict_gives_such_files_the_images_that_they_take(
    name: str, taking_pixels: Path, model: tuple[Path, SReT], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WholeImages.find(DataConfig(source="digits")).test.load(3, "L").save(tmp_path / "digit.png")
    printed = []
    for source in (taking_pixels / name, model[0]):
        assert main(["predict", str(source), str(tmp_path / "digit.png"), "--json"]) == 0
        printed.append(json.loads(capsys.readouterr().out)["predictions"])
    for one, other in zip(*printed, strict=True):
        assert one["class"] == other["class"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)
    arguments = ["predict", str(taking_pixels / name), str(tmp_path / "digit.png"), "--mean", "0.5", "--std", "1"]
    assert main(arguments) == 2
    assert "it standardises images itself" in capsys.readouterr().err


def digits(number: int) -> tuple[Tensor, Tensor]:
    """Returns the first test images as the model takes them, and their labels."""
    part = WholeImages.find(DataConfig(source="digits")).test
    ((images, labels),) = image_batches(part, range(number), PREPROCESSING, batch_size=number, threads=1)
    return torch.from_numpy(images), torch.from_numpy(labels)


def test_one_command_writes_all_formats_and_nothing_else(shipped: Shipped) -> None:
    out = shipped.pt2.parent
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {"new/m.onnx", "m.pt2", "openvino/model.xml", "openvino/model.bin"}


def test_files_compute_what_the_network_does_at_the_depth_that_was_chosen(shipped: Shipped) -> None:
    images = torch.randn(7, 1, 16, 16)
    with torch.inference_mode():
        shallow, deep = shipped.network(images, max_recursions=1), shipped.network(images)
    for path in (shipped.pt2, shipped.openvino):
        model = open_exported(path, threads=1)
        torch.testing.assert_close(model.run(images).detach(), shallow, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(deep, shallow, atol=1e-2)
        assert model.info is not None
        assert model.info.architecture.max_recursions == 1
        assert model.info.class_names == tuple(map(str, range(10)))


def test_onnxruntime_runs_the_8_bits(shipped: Shipped) -> None:
    session = onnxruntime.InferenceSession(shipped.onnx, providers=["CPUExecutionProvider"])
    images, _ = digits(50)
    with torch.inference_mode():
        expected = shipped.network(images, max_recursions=1).numpy()
    (logits,) = session.run(None, {"images": images.numpy()})
    assert 0 < np.abs(logits - expected).max() < 0.2 * np.abs(expected).max()
    assert session.get_modelmeta().custom_metadata_map["sret_nas.precision"] == '"int8"'


def test_the_output_says_what_was_compared_and_how_fast_each_is(shipped: Shipped) -> None:
    assert "Compared on 64 test images of digits" in shipped.output
    assert "at batches of 1 and 7" in shipped.output
    assert re.search(r"top-1 [\d.]+% where fp32 has [\d.]+%; same class for [\d.]+% of 100 test images", shipped.output)
    for name in ("PyTorch", "torch.export", "OpenVINO", "ONNX", "ONNX, int8"):
        assert re.search(rf"│ {name} +│ +[\d.]+ ms │ +[\d.]+ ms │", shipped.output), name


def test_accuracy_is_that_of_the_network_on_the_test_part(shipped: Shipped) -> None:
    images, labels = digits(100)
    with torch.inference_mode():
        top1 = (shipped.network(images, max_recursions=1).argmax(1) == labels).float().mean().item()
    assert f"where fp32 has {top1:.2%}" in shipped.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name what to write: --onnx FILE, --torch-export FILE or --openvino DIR"),
        (["--onnx", "m.pt2"], "--onnx must name a .onnx file, got m.pt2"),
        (["--torch-export", "m"], "--torch-export must name a .pt2 file, got m"),
        (["--onnx", "m.onnx", "--opset", "17"], "--opset must be from 18 to 25, got 17"),
        (["--onnx", "m.onnx", "--opset", "x"], "must be a whole number from 1"),
        (["--onnx", "m.onnx", "--int8"], "--int8 needs images to calibrate on"),
        (["--onnx", "m.onnx", "--int8", "--data", "digits", "--with-preprocessing"], "exclude each other"),
        (["--torch-export", "m.pt2", "--int8", "--data", "digits"], "--int8 quantises the ONNX file: name it"),
        (["--onnx", "m.onnx", "--mean", "0.5"], "--mean and --std go together"),
        (["--onnx", "m.onnx", "--mean", "0,0,0", "--std", "1,1,1"], "must have 1 value, one per channel, got 3"),
        (["--onnx", "m.onnx", "--mean", "0", "--std", "0"], "must be positive, got '0'"),
        (["--torch-export", "m.pt2", "--recursions", "1,1"], "one for each of the 1 stages, got 1,1"),
        (["--torch-export", "m.pt2", "--recursions", "0"], "must be a whole number from 1 to 16, got '0'"),
        (["--torch-export", "m.pt2", "--data", "no/such/folder"], "no/such/folder"),
        (["--torch-export", "m.pt2", "--data-root", "."], "--data-root goes with the name"),
        (["--torch-export", "file/m.pt2"], "file/m.pt2 cannot be written: Not a directory"),
        (["--torch-export", "folder.pt2"], "folder.pt2 is a folder: name another --torch-export"),
        (["--torch-export", "there.pt2"], "there.pt2 exists already: name another --torch-export"),
    ],
)  # fmt: skip
def test_wrong_options_are_explained_and_nothing_is_written(
    model: tuple[Path, SReT], arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("there.pt2").write_text("mine")
    Path("folder.pt2").mkdir()
    assert exit_code("export", str(model[0]), *arguments) == 2
    assert message in capsys.readouterr().err
    assert sorted(os.listdir()) == ["file", "folder.pt2", "there.pt2"]
    assert Path("there.pt2").read_text() == "mine"


def exit_code(*arguments: str) -> int:
    """Returns `main`'s exit code, argparse's own exits included."""
    try:
        return main(arguments)
    except SystemExit as exit_:
        return int(exit_.code or 0)


def test_models_without_weights_and_other_folders_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tmp_path), "--torch-export", str(tmp_path / "m.pt2")]) == 2
    assert "must be a model directory" in capsys.readouterr().err
    (tmp_path / "arch.yaml").write_text(dump_yaml(PRESETS["sret_t"].to_dict()))
    assert main(["export", str(tmp_path / "arch.yaml"), "--torch-export", str(tmp_path / "m.pt2")]) == 2
    assert "arch.yaml: has no trained weights beside it, such as arch.safetensors" in capsys.readouterr().err


def test_images_of_other_classes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_digits_model(tmp_path / "model", tuple("abcdefghij"))
    arguments = ["export", str(tmp_path / "model"), "--torch-export", str(tmp_path / "m.pt2"), "--data", "digits"]
    assert main(arguments) == 2
    assert "digits: its classes '0', '1', '2', '3', '4' and 5 more are none of the 10 of" in capsys.readouterr().err
    assert not (tmp_path / "m.pt2").exists()


@pytest.mark.slow
def test_what_differs_from_the_network_is_not_kept(
    model: tuple[Path, SReT], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export_network, "TOLERANCE", -1.0)
    assert main(["export", str(model[0]), "--torch-export", str(tmp_path / "m.pt2")]) == 2
    assert "so nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_leaves_what_was_there(
    model: tuple[Path, SReT], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.pt2"
    path.write_text("mine")
    with largest_file(10_000):
        assert main(["export", str(model[0]), "--torch-export", str(path), "--force"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["m.pt2"]
    assert path.read_text() == "mine"


def test_an_export_never_writes_over_what_it_reads(
    model: tuple[Path, SReT], capsys: pytest.CaptureFixture[str]
) -> None:
    directory = model[0]
    before = sorted(directory.iterdir())
    (directory / "m.pt2").touch()
    assert main(["export", str(directory), "--torch-export", str(directory / "m.pt2"), "--force"]) == 2
    assert "is read by this command, which never writes over it" in capsys.readouterr().err
    (directory / "m.pt2").unlink()
    assert sorted(directory.iterdir()) == before
