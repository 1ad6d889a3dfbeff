"""`soft-labels make` from its options to its file, and trainings that read it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sret_nas.errors import UserError
from sret_nas.yaml_files import dump_yaml, read_yaml
from tests.full_disk import largest_file
from tests.trials.training.tiny_teacher import write_teacher
from tests.trials.training.tiny_training import ARCH
from trials.command_line.main import main
from trials.training.soft_labels import SoftLabels, SoftLabelWriter
from trials.workflows.make_soft_labels import make_soft_labels, parse_soft_labels

DATA = ["--max-train-images", "48", "--max-val-images", "20", "--max-test-images", "20"]
MACHINE = ["--threads", "1", "--data-workers", "0"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher") / "model")


def make(out: Path, teacher: Path, **given: Any) -> str:
    printed = io.StringIO()
    options = {
        "teacher": str(teacher), "epochs": 2, "max_train_images": 48, "max_val_images": 20, "max_test_images": 20,
        "batch_size": 16, "threads": 1, "data_workers": 0,
    }  # fmt: skip
    make_soft_labels(*parse_soft_labels({**options, **given}), out, False, Console(file=printed, width=120))
    return printed.getvalue()


@pytest.mark.slow
def test_the_command_line_alone(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, network = tmp_path / "labels.soft", tmp_path / "network.yaml"
    network.write_text(dump_yaml({"architecture": ARCH.to_dict()}))
    command = ["soft-labels", "make", "--teacher", str(teacher), *DATA, "--epochs", "1", "--crop-scale", "0.5,1"]
    assert main([*command, *MACHINE, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Data: digits: 48 train")
    assert lines[1] == f"Teacher: {teacher}, 5.26K parameters, 16 px; images of 16 px, recipe small, seed 0"
    assert lines[2].startswith("Plan: 1 epoch of 48 images, 44 bytes each: 0.02 MB; about ")
    assert lines[3] == f"Soft labels: {out}"
    assert main([*command, *MACHINE, "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    train = ["train", str(network), *DATA, *MACHINE, "--epochs", "2", "--warmup-epochs", "0", "--batch-size", "16"]
    train += ["--soft-labels", str(out)]
    assert main([*train, "--out", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err == (
        f"error: {out}: holds soft labels of other images, whose crop scale is [0.5, 1.0], not [0.6, 1.0]: train with "
        "what they were made with, or make them anew\n"
    )
    assert not (tmp_path / "x").exists()
    assert main([*train, "--crop-scale", "0.5,1", "--out", str(tmp_path / "run")]) == 0
    assert f"Labels: {out}, 1 epoch of the teacher {teacher} at temperature 1" in capsys.readouterr().out
    assert read_yaml(tmp_path / "run" / "result.yaml")["provenance"]["labels"] == {"soft labels": str(out)}


@pytest.mark.slow
def test_an_interrupted_command_carries_on(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "whole", teacher)
    whole = (tmp_path / "whole").read_bytes()
    append = SoftLabelWriter.append
    labelled: list[int] = []

    def interrupted(self: SoftLabelWriter, probabilities: Any, seen: Any) -> None:
        append(self, probabilities, seen)
        labelled.append(len(probabilities))
        if len(labelled) == 2:
            os.kill(os.getpid(), 2)

    with monkeypatch.context() as patch:
        patch.setattr(SoftLabelWriter, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "labels", teacher)
        assert not (tmp_path / "labels").exists()
        with pytest.raises(UserError, match="whose seed is 0, not 1"):
            make(tmp_path / "labels", teacher, seed=1)
        printed = make(tmp_path / "labels", teacher)
    assert "; 32 of 96 labels are there" in printed
    assert sum(labelled) == 96
    assert (tmp_path / "labels").read_bytes() == whole


@pytest.mark.slow
def test_batches_and_reading_processes_change_no_label(teacher: Path, tmp_path: Path) -> None:
    make(tmp_path / "one", teacher, epochs=1)
    make(tmp_path / "two", teacher, epochs=1, batch_size=20, data_workers=2)
    one, two = (SoftLabels(tmp_path / name) for name in ("one", "two"))
    indices = np.arange(48)
    targets = [labels.targets(np.zeros(48, int), indices) for labels in (one, two)]
    np.testing.assert_allclose(targets[0], targets[1], atol=1e-3)
    assert (targets[0].argmax(1) == targets[1].argmax(1)).all()


def test_what_is_refused(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["soft-labels", "make", "--epochs", "1", "--out", str(tmp_path / "labels"), *DATA, *MACHINE]
    for more, message in (
        ([], "soft-labels make needs --teacher"),
        (["--teacher", "resnet1234"], "the teacher 'resnet1234' is neither a folder nor a model of timm"),
        (["--teacher", str(teacher), "--top", "0"], "top: must be greater than or equal to 1, got 0"),
        (["--teacher", str(teacher), "--crop-scale", "2,1"], "--crop-scale[0]: must be less than or equal to 1"),
    ):
        assert main([*command, *more]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_loses_no_label_that_is_written(teacher: Path, tmp_path: Path) -> None:
    with largest_file(16_384 + 40 * 44), pytest.raises(OSError, match=r"File too large: .*labels\.unfinished"):
        make(tmp_path / "labels", teacher)
    assert "labels are there" in make(tmp_path / "labels", teacher)
    assert SoftLabels(tmp_path / "labels").header.epochs == 2
