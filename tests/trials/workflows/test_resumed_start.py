"""A training that is resumed before its first checkpoint: with the images, labels and weights of its start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from sret_nas.nn.network import SReT
from sret_nas.yaml_files import dump_yaml, read_yaml
from tests.trials.training.tiny_teacher import write_teacher
from tests.trials.training.tiny_training import ARCH
from trials.command_line.main import main
from trials.runs.directory import TRAINING
from trials.training.full import FullTraining
from trials.workflows.network_task import Measurement, NetworkTask
from trials.workflows.train_network import parse_train, start_training

pytestmark = pytest.mark.slow

CLASSES = tuple("0123456789")


class StoppedError(Exception):
    """Stands for a kill before the first checkpoint."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def write_images(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(4):
            Image.new("L", (16, 16), 20 * index).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", CLASSES)


def begin(run_dir: Path, images: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
    """Begins a training that is killed before its first step."""
    network = run_dir.parent / "network.yaml"
    network.write_text(dump_yaml(ARCH.to_dict()))
    options = {"architecture": str(network), "data": str(images), "batch_size": 8, "threads": 1, "data_workers": 0}

    def stop(*_: object) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(NetworkTask, "measure", lambda *_: Measurement(1, 1.0))
        patch.setattr(FullTraining, "run", stop)
        with pytest.raises(StoppedError):
            start_training(*parse_train({**options, **given}), run_dir, Console(quiet=True))


def refusal(run_dir: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Resumes a training, and returns the line by which that is refused. Nothing is written."""
    held = sorted(run_dir.rglob("*"))
    capsys.readouterr()
    assert main(["train", "--resume", str(run_dir), *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert sorted(run_dir.rglob("*")) == held
    return error


@pytest.fixture
def no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends a training that is not refused at once."""

    def stop(*_: object) -> None:
        raise StoppedError

    monkeypatch.setattr(FullTraining, "_run_steps", stop)


@pytest.mark.parametrize("is_old", [False, True])
def test_images_of_another_class(
    is_old: bool, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_steps: None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In files of earlier versions, too, which do not name the images' digest."""
    begin(tmp_path / "run", images, monkeypatch)
    if is_old:
        recorded = read_yaml(tmp_path / "run" / TRAINING)
        old = {name: value for name, value in recorded.items() if name not in ("data_digest", "labels")}
        (tmp_path / "run" / TRAINING).write_text(dump_yaml(old))
    others = write_images(tmp_path / "others", (*CLASSES, "x"))
    error = refusal(tmp_path / "run", capsys, "--data", str(others))
    assert error.startswith(f"error: the images of {others} are not those that {tmp_path / 'run'} was begun with: put")


def test_other_images(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_steps: None, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path / "run", images, monkeypatch)
    moved = shutil.copytree(images, tmp_path / "moved")
    with pytest.raises(StoppedError):  # the same images elsewhere are not refused
        main(["train", "--resume", str(tmp_path / "run"), "--data", str(moved)])
    (moved / "3" / "0.png").rename(moved / "3" / "other.png")
    assert "are not those that" in refusal(tmp_path / "run", capsys, "--data", str(moved))


def test_missing_images(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shutil.copytree(images, tmp_path / "source")
    begin(tmp_path / "run", source, monkeypatch)
    source.rename(tmp_path / "moved")
    error = refusal(tmp_path / "run", capsys)
    assert f"{source}: there is no such folder" in error
    assert "(a training needs its images: where they were when it was begun, or as --data says)" in error


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_other_first_weights(
    kind: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_steps: None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if kind == "folder":
        checkpoint = write_teacher(tmp_path / "model")
        weights = checkpoint / "model.safetensors"
    else:
        checkpoint = weights = tmp_path / "model.safetensors"
        SReT(ARCH).save(weights)
    begin(tmp_path / "run", images, monkeypatch, checkpoint=str(checkpoint))
    with pytest.raises(StoppedError):
        main(["train", "--resume", str(tmp_path / "run")])
    torch.manual_seed(1)
    SReT(ARCH).save(weights)
    error = refusal(tmp_path / "run", capsys)
    assert error.startswith(f"error: {weights}: is not the file of weights that {tmp_path / 'run'} was begun with, ")


def test_another_teacher(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_steps: None, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = write_teacher(tmp_path / "teacher")
    begin(tmp_path / "run", images, monkeypatch, teacher=str(teacher))
    with pytest.raises(StoppedError):
        main(["train", "--resume", str(tmp_path / "run")])
    torch.manual_seed(1)
    SReT(ARCH).save(teacher / "model.safetensors")
    assert "the teacher's labels are not those that" in refusal(tmp_path / "run", capsys)


def write_fkd(folder: Path, best: float) -> Path:
    """Writes FKD's labels of the images, with one view of each."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(4):
            label = torch.tensor([[[float(name)], [best]]])
            torch.save(
                [torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([False]), label], folder / name / f"{index}.tar"
            )
    return folder


def test_other_labels_of_fkd(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_steps: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records of earlier versions have no digest of them, and are not refused."""
    labels = write_fkd(tmp_path / "labels", 0.9)
    begin(tmp_path / "run", images, monkeypatch, soft_labels=str(labels))
    with pytest.raises(StoppedError):
        main(["train", "--resume", str(tmp_path / "run")])
    write_fkd(labels, 0.8)
    assert "the teacher's labels are not those that" in refusal(tmp_path / "run", capsys)
    recorded = read_yaml(tmp_path / "run" / TRAINING)
    recorded["labels"] = {"soft labels": "FKD"}
    (tmp_path / "run" / TRAINING).write_text(dump_yaml(recorded))
    with pytest.raises(StoppedError):
        main(["train", "--resume", str(tmp_path / "run")])


def test_labels_may_have_moved(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_steps: None, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, others = write_fkd(tmp_path / "labels", 0.9), write_fkd(tmp_path / "others", 0.8)
    begin(tmp_path / "run", images, monkeypatch, soft_labels=str(labels))
    moved = str(labels.rename(tmp_path / "moved"))
    error = refusal(tmp_path / "run", capsys)
    assert f"{labels}: there is no such" in error
    assert (
        "(a training needs its teacher's labels: where they were when it was begun, or as --soft-labels says)" in error
    )
    with pytest.raises(StoppedError):
        main(["train", "--resume", str(tmp_path / "run"), "--soft-labels", moved])
    error = refusal(tmp_path / "run", capsys, "--soft-labels", str(others))
    assert "the teacher's labels are not those that" in error
    assert "keeps its options, --teacher among them" in refusal(tmp_path / "run", capsys, "--teacher", moved)


def test_a_teacher_may_have_moved(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_steps: None, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = write_teacher(tmp_path / "teacher")
    begin(tmp_path / "run", images, monkeypatch, teacher=str(teacher))
    moved = teacher.rename(tmp_path / "moved")
    assert "needs its teacher's labels: where they were when it was begun, or as --teacher" in refusal(
        tmp_path / "run", capsys
    )
    with pytest.raises(StoppedError):
        main(["train", "--resume", str(tmp_path / "run"), "--teacher", str(moved)])
    torch.manual_seed(1)
    SReT(ARCH).save(moved / "model.safetensors")
    assert "the teacher's labels are not those" in refusal(tmp_path / "run", capsys, "--teacher", str(moved))
