"""What users put where a training writes its networks, or take away from there."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from sret_nas.nn.model_directory import ModelInfo, Preprocessing, read_info
from sret_nas.nn.network import SReT
from tests.trials.training import tiny_training
from tests.trials.training.tiny_training import ARCH, run, spec
from trials.data.whole_images import WholeImages
from trials.training.full_models import write_trained

INFO = ModelInfo(preprocessing=Preprocessing(image_size=16, mean=(0.3,), std=(0.4,)))


@pytest.fixture(scope="module")
def network() -> SReT:
    torch.manual_seed(0)
    return SReT(ARCH)


def _own_folder(best: Path) -> None:
    best.mkdir()
    (best / "photo.jpg").write_bytes(b"dear")


def _own_folder_with_names_like_ours(best: Path) -> None:
    _own_folder(best)
    (best / "README.md").write_text("my own")


def _own_file(best: Path) -> None:
    best.write_text("my own")


def _link_to_nothing(best: Path) -> None:
    best.symlink_to("nowhere")


def test_a_training_goes_on_beside_a_folder_that_has_its_networks_name(tmp_path: Path) -> None:
    _own_folder_with_names_like_ours(tmp_path / "best")
    console = Console(file=io.StringIO(), width=1000)
    metrics = run(tmp_path, spec({}), WholeImages.find(tiny_training.DATA), console)
    assert read_info(tmp_path / "best").metrics == metrics
    assert (tmp_path / "best" / "photo.jpg").read_bytes() == b"dear"
    assert (tmp_path / "best.old" / "README.md").read_text() == "my own"
    assert isinstance(console.file, io.StringIO)
    told = [line for line in console.file.getvalue().splitlines() if line.startswith("note:")]
    assert told == [
        f"note: {tmp_path}/best was no network of this training; what lay there is kept as {tmp_path}/best.old"
    ]


@pytest.mark.parametrize(
    ("put", "kept"),
    [
        (_own_folder, {"best": {"photo.jpg"}}),
        (_own_folder_with_names_like_ours, {"best": {"photo.jpg"}, "best.old": {"README.md"}}),
        (_own_file, {"best.old": set()}),
        (_link_to_nothing, {"best.old": set()}),
    ],
)
def test_what_users_put_in_a_network_s_place_is_kept(
    network: SReT, tmp_path: Path, put: Callable[[Path], None], kept: dict[str, set[str]]
) -> None:
    put(tmp_path / "best")
    lines: list[str] = []
    for _ in range(2):
        write_trained(tmp_path / "best", network, INFO, lines.append)
        assert read_info(tmp_path / "best") == INFO
    assert {path.name for path in tmp_path.iterdir()} == {"best", *kept}
    for name, files in kept.items():
        assert files <= {path.name for path in (tmp_path / name).glob("*")}
    assert len(lines) == ("best.old" in kept)


def test_a_name_that_is_taken_is_not_written_over(network: SReT, tmp_path: Path) -> None:
    for text in ("first", "second", "third"):
        (tmp_path / "best").write_text(text)
        write_trained(tmp_path / "best", network, INFO, str)
        shutil.rmtree(tmp_path / "best")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "best.old": "first",
        "best.old2": "second",
        "best.old3": "third",
    }


def test_notes_beside_a_network_whose_files_were_deleted_stay(network: SReT, tmp_path: Path) -> None:
    lines: list[str] = []
    write_trained(tmp_path / "best", network, INFO, lines.append)
    (tmp_path / "best" / "notes.txt").write_text("mine")
    (tmp_path / "best" / "model.safetensors").unlink()
    write_trained(tmp_path / "best", network, INFO, lines.append)
    assert (tmp_path / "best" / "notes.txt").read_text() == "mine"
    assert read_info(tmp_path / "best") == INFO
    assert len(lines) == 1
