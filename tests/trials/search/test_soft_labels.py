"""From `soft-labels make --for search` to supernets and searches that read the file, as the command line runs them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sret_nas.nn.model_directory import Preprocessing
from sret_nas.yaml_files import read_yaml
from tests.trials.training.tiny_teacher import write_teacher
from trials.command_line.main import main
from trials.data.batching import AugmentedEpoch
from trials.data.prepared import PreparedData
from trials.runs.directory import RECORDS_FILE, TRAINING
from trials.runs.history import read_history
from trials.training.prepared_labels import PreparedLabels
from trials.training.soft_labels import SoftLabelWriter
from trials.training.teachers import load_teacher

DATA = ["--max-train-images=128", "--max-val-images=60", "--max-test-images=60", "--image-size=32", "--seed=4"]
SEARCH = [
    "search", "--space=smoke", "--params-budget=300K", *DATA, "--batch-size=32", "--supernet-images=256",
    "--train-images=64", "--trials=3", "--population=2", "--finalists=1", "--controls=1", "--best-by=proxy",
    "--device=cpu", "--precision=fp32", "--workers=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher") / "model")


def make(teacher: Path, out: Path, *more: str) -> int:
    command = ["soft-labels", "make", "--for=search", f"--teacher={teacher}", *DATA, "--threads=1"]
    return main([*command, "--supernet-images=256", "--device=cpu", f"--out={out}", *more])


@pytest.fixture(scope="module")
def stored(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the labels that the searches here read, beside the folder of their images."""
    out = tmp_path_factory.mktemp("runs") / "labels.soft"
    assert make(teacher, out) == 0
    return out


def images_beside(out: Path) -> PreparedData:
    (folder,) = (out.parent / "prepared-data").iterdir()
    return PreparedData.open(folder)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_the_teacher_sees_every_view_of_a_search(teacher: Path, stored: Path) -> None:
    """By default as many epochs as a supernet is trained."""
    data = images_beside(stored)
    seen = Preprocessing(image_size=32, mean=data.mean, std=data.std)
    network = load_teacher(str(teacher), None, data.class_names, data.num_classes).adapt_to(seen)
    labels = PreparedLabels(stored, data)
    assert labels.epochs == 2
    for epoch in range(2):
        chosen = torch.tensor([100, 3, 127, 0])
        images = AugmentedEpoch(data.train, seed=4, epoch=epoch).images(chosen)
        found = labels.targets(epoch, chosen.numpy(), images.numpy())
        assert torch.allclose(torch.from_numpy(found), network(images, 1.0), atol=1e-3)


def test_an_interrupted_command_carries_on_in_the_middle_of_an_epoch(
    teacher: Path, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After batches of 75, 53 and 75 images of two epochs of 128."""
    append = SoftLabelWriter.append
    labelled: list[int] = []

    def interrupted(self: SoftLabelWriter, probabilities: Any, seen: Any) -> None:
        append(self, probabilities, seen)
        labelled.append(len(probabilities))
        if len(labelled) == 3:
            os.kill(os.getpid(), 2)

    out = tmp_path / "labels.soft"
    with monkeypatch.context() as patch:
        patch.setattr(SoftLabelWriter, "append", interrupted)
        assert make(teacher, out, "--batch-size=75") == 130
        assert not out.exists()
        capsys.readouterr()
        assert make(teacher, out, "--batch-size=50") == 0
    assert labelled == [75, 53, 75, 50, 3]
    assert "; 203 of 256 labels are there" in capsys.readouterr().out
    data, chosen = images_beside(stored), torch.arange(128)
    for epoch in range(2):
        images = AugmentedEpoch(data.train, seed=4, epoch=epoch).images(chosen).numpy()
        ours, theirs = (PreparedLabels(path, data).targets(epoch, chosen.numpy(), images) for path in (out, stored))
        assert abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize(("more", "message"), [
    (["--recipe=small"], "--recipe goes with --for train, got --for search"),
    (["--epochs=2"], "--epochs and --supernet-images exclude each other: both say how many epochs to label"),
    (["--crop-scale=0.5,1"], "--crop-scale goes with --for train: a search shifts and mirrors its images, no more"),
    (["--for=train", "--epochs=1"], "--supernet-images goes with --for search, got --for train"),
])  # fmt: skip
def test_options_that_do_not_go_together(
    more: list[str], message: str, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(teacher, tmp_path / "labels.soft", *more) == 2
    assert message in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_supernet_with_another_seed_learns_the_same_labels(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["supernet", "train", "--space=smoke", *DATA, "--images=64", "--device=cpu", "--threads=1"]
    assert main([*command, "--seed=5", f"--soft-labels={stored}", f"--out={tmp_path / 'run'}"]) == 0
    assert f"Labels: {stored}, 2 epochs of the teacher " in capsys.readouterr().out


def test_files_of_other_images_are_refused_before_anything_is_written(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--out", str(tmp_path / "run")]
    for more, message in (
        (["--image-size=24"], "whose image size is 32, not 24"),
        (["--max-train-images=120"], "whose images (digest) is"),
        (["--soft-labels", str(tmp_path / "none.soft")], "none.soft: there is no such file"),
    ):
        for command in (SEARCH, ["supernet", "train", "--space=smoke", *DATA]):
            assert main([*command, "--soft-labels", str(stored), *more, *run]) == 2
            assert message in one_line(capsys)
            assert not (tmp_path / "run").exists()


def test_train_refuses_the_labels_of_a_search(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "sret_t", *DATA, "--epochs=3", "--soft-labels", str(stored), "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "holds soft labels of the images that a search sees: make others with --for train" in one_line(capsys)


def outcome_of(run_dir: Path) -> list[Any]:
    return [
        (number, trial.result and trial.result.cross_entropy,
         {role: (final.error, final.test_cross_entropy) for role, final in trial.finals.items()})
        for number, trial in sorted(read_history(run_dir).trials.items())
    ]  # fmt: skip


@pytest.mark.slow
def test_a_search_learns_the_labels_and_goes_on_with_the_same_ones(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Supernet, trials and finals. A file that has moved is found again; another one is refused."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*SEARCH, "--fine-tune-images=32", f"--soft-labels={stored}", f"--out={whole}"]) == 0
    assert f"Labels: {stored}, 2 epochs of the teacher " in capsys.readouterr().out
    found = outcome_of(whole)
    assert sum(len(finals) for *_, finals in found) == 3
    assert main([*SEARCH, "--fine-tune-images=32", f"--out={tmp_path / 'classes'}"]) == 0
    for ours, theirs in zip(found, outcome_of(tmp_path / "classes"), strict=False):
        assert ours[1] != theirs[1]

    shutil.copytree(whole, cut)
    lines = (cut / RECORDS_FILE).read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["event"] in ("header", "supernet")]
    (cut / RECORDS_FILE).write_text("\n".join(kept) + "\n")
    moved = shutil.copy(stored, tmp_path / "moved.soft")
    other = tmp_path / "other.soft"
    other.write_bytes(stored.read_bytes()[:-1] + b"\0")
    capsys.readouterr()
    assert main(["search", "--resume", str(cut), f"--soft-labels={other}"]) == 2
    assert "holds other soft labels than those that the training was begun with" in one_line(capsys)
    assert main(["search", "--resume", str(tmp_path / "classes"), f"--soft-labels={moved}"]) == 2
    assert "--soft-labels cannot change in a resumed search: it was not given" in one_line(capsys)
    assert main(["search", "--resume", str(cut), f"--soft-labels={moved}"]) == 0
    assert outcome_of(cut) == found
    assert main(["runs", "rerun", str(cut), "--trial=0"]) == 0
    assert "Equal to the last bit." in capsys.readouterr().out


@pytest.mark.slow
def test_a_supernet_learns_the_labels_alone(stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    command = ["supernet", "train", "--space=smoke", *DATA, "--batch-size=32", "--images=384", "--device=cpu"]
    assert main([*command, "--threads=1", f"--soft-labels={stored}", f"--out={run}"]) == 0
    assert "; 3 epochs of training use them again" in capsys.readouterr().out
    assert read_yaml(run / TRAINING)["soft_labels"]["path"] == str(stored)
    assert main(["supernet", "train", "--resume", str(run), f"--soft-labels={tmp_path / 'gone.soft'}"]) == 2
    assert "gone.soft: the soft labels of the training are not on this machine" in one_line(capsys)
    assert main(["supernet", "train", "--resume", str(run)]) == 0
