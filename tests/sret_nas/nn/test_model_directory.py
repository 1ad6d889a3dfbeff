"""Model directories: read back as written, whole or not at all, and refused in one line when they do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sret_nas import SReT
from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.nn.model_directory import (
    ModelInfo,
    Preprocessing,
    find_model_directory,
    put_back,
    read_info,
    read_model,
    write_model,
)
from tests.counted_spaces import space_of

torch.set_num_threads(1)

ARCH = space_of({"width": [8], "heads": [2], "recursions": [2], "groups": [[4, 2]], "nll": ["every"]}).network([0])
NAMES = tuple(f"class {index}" for index in range(ARCH.classes))
INFO = ModelInfo(
    preprocessing=Preprocessing(image_size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1), crop_fraction=0.875),
    class_names=NAMES,
    metrics={"test": {"error": 0.125, "images": 64}},
    recipe={"epochs": 3},
    provenance={"seed": 1},
)


@pytest.fixture(scope="module")
def network() -> SReT:
    torch.manual_seed(0)
    return SReT(ARCH).eval()


@pytest.fixture
def written(network: SReT, tmp_path: Path) -> Path:
    write_model(tmp_path / "model", network, INFO)
    return tmp_path / "model"


def test_reads_back_what_was_written(network: SReT, written: Path) -> None:
    read, info = read_model(written)
    assert info == INFO
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(read.eval()(images), network(images))
    assert torch.equal(SReT.from_pretrained(str(written)).eval()(images), network(images))


def test_the_architecture_builds_the_network_with_its_weights(network: SReT, written: Path) -> None:
    read = SReT.from_yaml(written / "architecture.yaml", weights=written / "model.safetensors")
    assert torch.equal(read.head.weight, network.head.weight)


@pytest.mark.parametrize(("kind", "head"), [("conv", "average"), ("patch", "distillation_token")])
def test_the_ends_of_the_network_are_named_as_timm_has_them(kind: str, head: str, tmp_path: Path) -> None:
    stage = {**ARCH.to_dict()["stages"][0], "groups": [1, 1]}
    data = {**ARCH.to_dict(), "stages": [stage], "head": head, "stem": {"width": 8, "kind": kind}}
    network = SReT(ArchConfig.from_dict(data, "data"))
    write_model(tmp_path / "model", network, INFO)
    config = json.loads((tmp_path / "model" / "config.json").read_text())["pretrained_cfg"]
    assert isinstance(network.get_submodule(config["first_conv"]), nn.Conv2d)
    named = [config["classifier"]] if isinstance(config["classifier"], str) else config["classifier"]
    assert set(named) == {name for name, layer in network.named_children() if "head" in name and layer is not None}


def test_the_card_names_results_and_classes(written: Path) -> None:
    card = (written / "README.md").read_text()
    assert "| test error | 0.125 |" in card
    assert json.loads(card.partition("```json\n")[2].partition("\n```")[0]) == list(NAMES)


def test_a_replaced_head_decides_the_classes(tmp_path: Path) -> None:
    network = SReT(ARCH)
    network.head = nn.Linear(network.head.in_features, 5)
    write_model(tmp_path / "five", network, ModelInfo(preprocessing=INFO.preprocessing, class_names=tuple("abcde")))
    assert read_model(tmp_path / "five")[0].arch.classes == 5


def test_an_existing_folder_is_replaced_only_when_asked(network: SReT, written: Path) -> None:
    with pytest.raises(UserError, match="is not empty"):
        write_model(written, network, INFO)
    other = ModelInfo(preprocessing=INFO.preprocessing, metrics={"epoch": 2})
    write_model(written, network, other, replace=True)
    assert read_info(written) == other
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def _add_files_of_a_user(directory: Path) -> None:
    (directory / "notes.txt").write_text("dear")
    (directory / "photos").mkdir()
    (directory / "photos" / "holiday.jpg").write_bytes(b"dear")


def _has_files_of_a_user(directory: Path) -> bool:
    names = "notes.txt", "photos/holiday.jpg"
    return all((directory / name).is_file() and (directory / name).read_bytes() == b"dear" for name in names)


def test_only_our_files_are_replaced(network: SReT, written: Path) -> None:
    _add_files_of_a_user(written)
    other = ModelInfo(preprocessing=INFO.preprocessing, metrics={"epoch": 2})
    write_model(written, network, other, replace=True)
    assert _has_files_of_a_user(written)
    assert not (written / "recipe.yaml").exists(), "that is of the network before"
    assert [path.name for path in written.parent.iterdir()] == [written.name]


@pytest.mark.parametrize("is_there", [True, False])
def test_files_of_a_user_return_after_a_kill(network: SReT, written: Path, is_there: bool) -> None:
    _add_files_of_a_user(written)
    written.rename(written.with_name(f".{written.name}.abcd_123.old"))
    if is_there:
        write_model(written, network, INFO)
    put_back(written)
    assert _has_files_of_a_user(written)
    assert read_info(written) == INFO
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def test_what_a_kill_between_two_renames_left_is_put_back(
    network: SReT, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def rename_until_killed(path: Path, target: Path) -> Path:
        if target == written:
            raise KeyboardInterrupt  # not caught, as a kill is not
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_until_killed)
    with pytest.raises(KeyboardInterrupt):
        write_model(written, network, ModelInfo(preprocessing=INFO.preprocessing), replace=True)
    monkeypatch.undo()
    assert not written.exists()
    put_back(written)
    assert read_info(written) == INFO
    put_back(written)  # there is nothing to do
    put_back(written.with_name("other"))
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def test_what_kills_left_hidden_is_deleted(network: SReT, written: Path) -> None:
    """What others hid beside it stays."""
    folder, half = written.parent, f".{written.name}.abcd_123"
    for name in (half, f"{half}.old", ".other.abcd_123", f".{written.name}.notes"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text("half")
    put_back(written)
    assert {path.name for path in folder.iterdir()} == {written.name, ".other.abcd_123", f".{written.name}.notes"}
    assert read_info(written) == INFO


def test_a_folder_that_is_no_model_is_never_replaced(network: SReT, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"dear")
    with pytest.raises(UserError, match=r"holiday\.jpg"):
        write_model(tmp_path, network, INFO, replace=True)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (ModelInfo(preprocessing=INFO.preprocessing, class_names=("one",)), "1 names were given"),
        (ModelInfo(preprocessing=Preprocessing(image_size=32, mean=(0.5,), std=(0.5,))), "mean and std have 1"),
    ],
)
def test_information_that_does_not_fit_leaves_nothing_behind(
    network: SReT, tmp_path: Path, info: ModelInfo, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_model(tmp_path / "model", network, info)
    assert list(tmp_path.iterdir()) == []


def _config(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        config = json.loads((directory / "config.json").read_text())
        change(config)
        (directory / "config.json").write_text(json.dumps(config))

    return apply


def _other_architecture(config: dict[str, Any]) -> None:
    config["model_args"]["arch"] = ArchConfig.from_dict({**ARCH.to_dict(), "drop_path": 0.5}, "").to_dict()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda directory: (directory / "config.json").write_text("{"), "not valid JSON"),
        (_config(lambda config: config.pop("model_args")), "model_args: is missing"),
        (_config(lambda config: config.update(architecture="vit")), "must be 'sret', got 'vit'"),
        (_config(lambda config: config["pretrained_cfg"].update(mean=[0.5])), "value per channel"),
        (
            _config(lambda config: config["pretrained_cfg"].update(input_size=[1, 32, 32], mean=[0.5], std=[0.5])),
            r"must have 3 values",
        ),
        (_config(lambda config: config["pretrained_cfg"].update(input_size=[1, 32, 32])), "input_size must be"),
        (_config(lambda config: config["pretrained_cfg"].update(input_size=[3, 32, 64])), "input_size must be"),
        (_config(lambda config: config.update(label_names=["one"] * ARCH.classes)), "must differ, got 'one' twice"),
        (_config(lambda config: config.update(num_classes=5)), "num_classes must be"),
        (_config(lambda config: config["pretrained_cfg"].update(std=[0.5, 0.0, 0.5])), r"std\[1\]"),
        (_config(lambda config: config["pretrained_cfg"].update(input_size=[3, 10**9, 10**9])), "image_size"),
        (_config(lambda config: config.update(label_names=["one"])), "label_names must have"),
        (_config(_other_architecture), "both must come from one training"),
        (lambda directory: (directory / "metrics.json").write_text("[]"), "metrics.json: must be a mapping"),
        (lambda directory: (directory / "recipe.yaml").write_text("- 1"), "recipe.yaml: must be a mapping"),
        (lambda directory: (directory / "model.safetensors").write_bytes(b"\x08"), "cannot be read as weights"),
        (
            lambda directory: (directory / "model.safetensors").write_text(
                "version https://git-lfs.github.com/spec/v1\n"
            ),
            "pointer of Git LFS",
        ),
    ],
)
def test_damage_is_named_in_one_line(written: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(written)
    with pytest.raises(UserError, match=message) as caught:
        read_model(written)
    assert str(written) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_training_run_stands_for_its_best_model(network: SReT, tmp_path: Path) -> None:
    write_model(tmp_path / "run" / "last", network, INFO)
    assert find_model_directory(tmp_path / "run") == tmp_path / "run" / "last"
    write_model(tmp_path / "run" / "best", network, INFO)
    assert find_model_directory(tmp_path / "run") == tmp_path / "run" / "best"
    with pytest.raises(UserError, match="must be a model directory"):
        find_model_directory(tmp_path)
