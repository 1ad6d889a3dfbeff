"""Teachers: ours and timm's, from folders and files, and what a student's images become for them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.models._hub import save_for_hf
from torch import nn

from sret_nas import SReT
from sret_nas.errors import UserError
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, write_model
from tests.trials.training.tiny_training import ARCH
from trials.training.teachers import Teacher, load_teacher

NAMES = tuple("0123456789")
GREY = Preprocessing(image_size=16, mean=(0.3,), std=(0.4,))
COLOUR = Preprocessing(image_size=16, mean=(0.3, 0.4, 0.5), std=(0.4, 0.5, 0.6))
TIMM = "test_convnext"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("teacher") / "model"
    torch.manual_seed(0)
    info = ModelInfo(preprocessing=GREY, class_names=NAMES, metrics={}, recipe=None, provenance={})
    write_model(directory, SReT(ARCH), info)
    return directory


@pytest.fixture(scope="module")
def timms() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(TIMM, num_classes=10).eval()


def test_a_model_directory(ours: Path) -> None:
    teacher = load_teacher(str(ours), None, NAMES, 10).adapt_to(GREY)
    images = torch.randn(3, 1, 16, 16)
    with torch.no_grad():
        logits = SReT.from_pretrained(ours).eval()(images)
    torch.testing.assert_close(teacher(images, 1.0), logits.softmax(1))
    torch.testing.assert_close(teacher(images, 4.0), (logits / 4).softmax(1))
    assert load_teacher(f"local-dir:{ours}", None, NAMES, 10).digest == teacher.digest


def test_images_are_standardised_and_resized_as_the_teacher_expects() -> None:
    class Kept(nn.Module):
        num_classes = 2

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.seen = images
            return images.new_zeros(len(images), 2)

    pixels = torch.rand(2, 1, 16, 16)
    kept = Kept()
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    teacher = Teacher(kept, "kept", None, 32, mean, std).adapt_to(GREY)
    teacher((pixels - 0.3) / 0.4, 1.0)
    shape = (1, 3, 1, 1)
    expected = (pixels.expand(2, 3, 16, 16) - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    torch.testing.assert_close(kept.seen, F.interpolate(expected, (32, 32), mode="bicubic", antialias=True))
    grey = Teacher(kept, "kept", None, 32, (0.5,), (0.5,))
    with pytest.raises(UserError, match=r"the teacher kept takes images of 1 channel, but the network takes 3"):
        grey.adapt_to(COLOUR)


@pytest.mark.parametrize("kind", ["folder", "checkpoint", "weights", "safetensors"])
def test_a_model_of_timm(kind: str, timms: nn.Module, tmp_path: Path) -> None:
    name, file = TIMM, None
    if kind == "folder":
        save_for_hf(timms, tmp_path / "model")
        name = f"local-dir:{tmp_path / 'model'}"
    elif kind == "safetensors":
        file = tmp_path / "model.safetensors"
        save_file(timms.state_dict(), file)
    else:
        file = tmp_path / "model.pth"
        state = timms.state_dict()
        other = {key: value + 1 for key, value in state.items()}
        whole = {"state_dict": other, "state_dict_ema": state, "args": argparse.Namespace(lr=0.1)}
        torch.save(whole if kind == "checkpoint" else state, file)
    teacher = load_teacher(name, file, NAMES, 10)
    mean, std = (torch.tensor(timms.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))  # type: ignore[index]
    size = teacher.image_size
    pixels = torch.rand(2, 3, size, size)
    with torch.no_grad():
        expected = timms((pixels - mean) / std).softmax(1)
    student = torch.stack([(pixels[:, c] - COLOUR.mean[c]) / COLOUR.std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(teacher.adapt_to(COLOUR)(student, 1.0), expected, rtol=1e-4, atol=1e-5)
    assert teacher.digest is not None


def test_what_is_refused(ours: Path, timms: nn.Module, tmp_path: Path) -> None:
    torch.save(timms.state_dict(), tmp_path / "ten.pth")
    torch.save({"weights": "none"}, tmp_path / "none.pth")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"architecture": "resnet18"}')
    refused = [
        (str(ours), None, NAMES, 12, "has 10 classes, but the network has 12"),
        (
            str(ours),
            None,
            (*NAMES[:3], "x", *NAMES[4:]),
            10,
            "other classes than the data: its class 3 is '3', not 'x'",
        ),
        (str(ours), tmp_path / "ten.pth", NAMES, 10, "a folder has its own weights"),
        ("resnet1234", None, NAMES, 10, "is neither a folder nor a model of timm"),
        ("local-dir:nothing", None, NAMES, 10, "nothing: there is no such folder"),
        ("~nobody_of_this_name/x", None, NAMES, 10, "'~nobody_of_this_name/x' cannot be looked up: "),
        (str(tmp_path / "empty"), None, NAMES, 10, "must be a model directory"),
        (str(tmp_path / "broken"), None, NAMES, 10, "must hold config.json and weights"),
        (TIMM, tmp_path / "ten.pth", NAMES, 7, f"does not fit {TIMM} with 7 classes: size mismatch for head.fc.weight"),
        (TIMM, tmp_path / "none.pth", NAMES, 10, "must hold the weights of a model of timm"),
        (TIMM, tmp_path / "nothing.pth", NAMES, 10, "there is no such file"),
    ]
    for name, file, class_names, classes, message in refused:
        with pytest.raises(UserError) as error:
            load_teacher(name, file, class_names, classes)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_a_hub_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(
        UserError, match=r"^the teacher resnet18 cannot be loaded: .*; without a network, give"
    ) as error:
        load_teacher("resnet18", None, NAMES, 10)
    assert "\n" not in str(error.value)


def test_a_model_directory_of_half_precision(tmp_path: Path) -> None:
    """As `convert` writes for a checkpoint of such weights."""
    torch.manual_seed(0)
    write_model(tmp_path / "half", SReT(ARCH).half(), ModelInfo(preprocessing=GREY, class_names=NAMES))
    teacher = load_teacher(str(tmp_path / "half"), None, NAMES, 10).adapt_to(GREY)
    taught = teacher(torch.randn(3, 1, 16, 16), 1.0)
    assert taught.dtype == torch.float32
    torch.testing.assert_close(taught.sum(dim=1), torch.ones(3))
