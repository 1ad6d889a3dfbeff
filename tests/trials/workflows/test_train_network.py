"""`train` from its options to its files."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from sret_nas import SReT
from sret_nas.errors import UserError
from sret_nas.yaml_files import dump_yaml, read_yaml
from tests.full_disk import largest_file
from tests.trials.training.test_initial_weights import target_in_space, write_supernet
from tests.trials.training.tiny_training import ARCH
from trials.command_line.main import main
from trials.runs.full_disk import StorageError
from trials.training.full import FullTraining
from trials.workflows import network_task
from trials.workflows.train_network import _explained, parse_train, resume_training, start_training


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "fox"):
        (folder / name).mkdir()
        for index in range(15):
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "network.yaml"
    path.write_text(dump_yaml({"architecture": ARCH.to_dict(), "recipe": {"depth_schedule": "sandwich"}}))
    return path


def train(run_dir: Path, network: Path | str, images: Path, **given: Any) -> str:
    """Trains for two epochs of two steps, and returns what was printed."""
    printed = io.StringIO()
    options = {
        "architecture": str(network), "data": str(images), "epochs": 2, "batch_size": 12, "warmup_epochs": 0.5,
        "threads": 1, "data_workers": 0,
    }  # fmt: skip
    start_training(*parse_train({**options, **given}), run_dir, Console(file=printed, width=120))
    return printed.getvalue()


@pytest.mark.slow
def test_a_run_says_what_it_does_and_leaves_its_files(network: Path, images: Path, tmp_path: Path) -> None:
    lines = train(tmp_path / "run", network, images).splitlines()
    assert lines[0] == "Target: classes 3 from the data (was 10), channels 3 from the data (was 1)"
    assert lines[1].startswith(f"Data: {images}: 27 train (the rest of {images}), 9 val (20% of each class of ")
    assert lines[2].endswith("at 16 px, 5.213K parameters, depth schedule sandwich; seed 0")
    assert lines[3] == "Recipe: small, adamw, learning rate 0.002"
    assert lines[4].startswith("Plan: 2 epochs of 2 steps with 12 images; about ")
    assert lines[-1] == (
        f"Networks: {tmp_path / 'run' / 'best'} and {tmp_path / 'run' / 'last'}; result: {tmp_path / 'run'}/result.yaml"
    )
    names = {"best", "last", "checkpoint.pt", "metrics.jsonl", "tensorboard", "recipe.yaml", "training.yaml"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {*names, "result.yaml"}
    result = read_yaml(tmp_path / "run" / "result.yaml")
    kept = SReT.from_pretrained(tmp_path / "run")
    assert kept.arch.arch_id == result["arch_id"]
    assert result["metrics"] == json.loads((tmp_path / "run" / "best" / "metrics.json").read_text())
    assert result["recipe"]["depth_schedule"] == "sandwich"
    assert read_yaml(tmp_path / "run" / "recipe.yaml")["precision"] in ("fp32", "bf16")  # not auto, for a resumed run
    again = train(tmp_path / "again", network, images, recipe=str(tmp_path / "run" / "recipe.yaml"))
    assert "Recipe: recipe, adamw" in again
    assert read_yaml(tmp_path / "again" / "result.yaml")["metrics"] == result["metrics"]


@pytest.mark.slow
def test_the_command_line_alone(
    network: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--data",
        str(images),
        "--epochs",
        "1",
        "--warmup-epochs",
        "0",
        "--batch-size",
        "12",
        "--data-workers",
        "0",
    ]
    options += ["--crop-scale", "0.5,1", "--clip-norm", "none", "--threads", "1", "--out", str(tmp_path / "run")]
    assert main(["train", str(network), *options]) == 0
    recipe = read_yaml(tmp_path / "run" / "recipe.yaml")
    assert (recipe["epochs"], recipe["crop_scale"], recipe["clip_norm"]) == (1, [0.5, 1.0], None)
    capsys.readouterr()
    assert main(["train", str(network), *options, "--out", str(tmp_path / "x"), "--mixup", "-1"]) == 2
    assert capsys.readouterr().err == "error: train: --mixup: must be greater than or equal to 0, got -1.0\n"
    assert not (tmp_path / "x").exists()


def test_a_diverged_training_is_a_failure(
    network: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trials.training.full.MAX_SKIPPED", 1)
    monkeypatch.setattr("trials.training.full_state.DepthTask.forward", lambda *_: {"loss": _nan()})
    arguments = ["train", str(network), "--data", str(images), "--out", str(tmp_path / "run"), "--batch-size", "12"]
    monkeypatch.setattr(network_task.NetworkTask, "measure", lambda *_: network_task.Measurement(1, 1.0))
    assert main([*arguments, "--data-workers", "0", "--threads", "1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: the loss or a gradient was not finite in 1 steps in a row, up to step 1 of 60")
    assert error.count("\n") == 1


def _nan() -> torch.Tensor:
    return torch.tensor(float("nan"), requires_grad=True)


@pytest.mark.slow
def test_an_interrupted_run_carries_on(
    network: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its images have moved meanwhile, which changes nothing."""
    train(tmp_path / "whole", network, images)
    moved = shutil.copytree(images, tmp_path / "moved")
    train_step = FullTraining.train_step

    def interrupted(self: FullTraining, stream: Any) -> float | None:
        if self._directory == tmp_path / "run" and self.state.counts.steps == 2:
            os.kill(os.getpid(), 2)
        return train_step(self, stream)

    with monkeypatch.context() as patch:
        patch.setattr(FullTraining, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", network, moved)
    shutil.move(moved, tmp_path / "elsewhere")
    printed = io.StringIO()
    given = {"data": str(tmp_path / "elsewhere"), "threads": 1}
    resume_training(tmp_path / "run", given, Console(file=printed, width=120))
    results = [read_yaml(tmp_path / name / "result.yaml") for name in ("whole", "run")]
    assert results[0]["metrics"] == results[1]["metrics"]
    resume_training(tmp_path / "run", given, Console(file=printed, width=120))
    assert f"The training has ended already: {tmp_path / 'run'}/result.yaml" in printed.getvalue()


@pytest.mark.slow
def test_what_resuming_refuses(network: Path, images: Path, tmp_path: Path) -> None:
    console = Console(quiet=True)
    with pytest.raises(UserError, match=r"holds no training of a network: there is no training\.yaml in it"):
        resume_training(tmp_path, {}, console)
    train(tmp_path / "run", network, images, epochs=1, warmup_epochs=0.0)
    with pytest.raises(UserError, match=r"keeps its options, --epochs among them: leave it out"):
        resume_training(tmp_path / "run", {"epochs": 3}, console)
    (tmp_path / "run" / "result.yaml").unlink()
    others = shutil.copytree(images, tmp_path / "others")
    (others / "fox").rename(others / "wolf")
    with pytest.raises(UserError, match=r"is of a training with another classes: it was \['cat', 'dog', 'fox'\], got"):
        resume_training(tmp_path / "run", {"data": str(others)}, console)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"classes": 2}, "--classes must be at least the 3 classes of the data, got 2"),
        ({"image_size": 4}, "train: --image-size: must be greater than or equal to 8, got 4"),
        ({"supernet": "a", "checkpoint": "b"}, "--supernet and --checkpoint exclude each other"),
        ({"checkpoint": "nothing.safetensors"}, "nothing.safetensors: there is no such file"),
        ({"recipe": "nothing"}, "'nothing' is no recipe"),
        ({"batch_size": 64, "gradient_accumulation": 20}, "--batch-size must give every one of 1 process"),
    ],
)
def test_what_starting_refuses(
    given: dict[str, Any], message: str, network: Path, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        train(tmp_path / "run", network, images, **given)
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_directory_that_is_not_empty_is_left_alone(network: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("precious")
    with pytest.raises(UserError, match=r"is not empty \(it holds mine\)"):
        train(tmp_path / "run", network, images)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine"]


@pytest.mark.slow
def test_more_classes_than_the_data_has(network: Path, images: Path, tmp_path: Path) -> None:
    printed = train(tmp_path / "run", network, images, classes=7, epochs=1, warmup_epochs=0.0)
    assert "Target: classes 7 from --classes (was 10)" in printed
    assert SReT.from_pretrained(tmp_path / "run").arch.classes == 7


@pytest.mark.slow
def test_finetuning_a_trained_network(network: Path, images: Path, tmp_path: Path) -> None:
    train(tmp_path / "first", network, images, epochs=1, warmup_epochs=0.0)
    printed = train(
        tmp_path / "second", tmp_path / "first", images, checkpoint=str(tmp_path / "first"), image_size=32,
        epochs=1, warmup_epochs=0.0,
    )  # fmt: skip
    start = f"Start: the checkpoint {tmp_path / 'first'}; position embedding resized from 4 to 8 tokens a side"
    assert start in printed.splitlines()
    assert read_yaml(tmp_path / "second" / "training.yaml")["depth_schedule"] == "sandwich"


@pytest.mark.slow
def test_a_supernet_is_the_start(images: Path, tmp_path: Path) -> None:
    supernet = write_supernet(tmp_path / "supernet.safetensors", 1.0)
    network = tmp_path / "network.yaml"
    network.write_text(dump_yaml(target_in_space().to_dict()))
    printed = train(tmp_path / "run", network, images, supernet=str(supernet), epochs=1, warmup_epochs=0.0)
    changes = "first convolution adapted from 1 to 3 channels; new head for 3 classes (had 10)"
    assert (
        f"Start: the supernet {supernet}; position embedding resized from 8 to 16 tokens a side; {changes}" in printed
    )


def test_a_disk_that_became_read_only_is_to_be_made_writable(tmp_path: Path) -> None:
    launcher: Any = SimpleNamespace(flags=())
    recorded: Any = None
    with (
        pytest.raises(StorageError, match=r"lock cannot be written: Read-only .*: make it writable, then carry on"),
        _explained(tmp_path, recorded, launcher, Console(quiet=True)),
    ):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "lock")


@pytest.mark.slow
@pytest.mark.parametrize("room", [20_000, 4_000])
def test_a_full_disk_says_how_to_carry_on(room: int, network: Path, images: Path, tmp_path: Path) -> None:
    with (
        largest_file(room),
        pytest.raises(
            StorageError, match=r"/run.* cannot be written: .*; the last checkpoint is whole: .* train --resume"
        ),
    ):
        train(tmp_path / "run", network, images)


@pytest.mark.slow
def test_a_repeated_run_of_fewer_epochs_warms_up_for_less(
    network: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "run", network, images, warmup_epochs=1.0)
    assert main(["train", "--config", str(tmp_path / "run"), "--epochs", "1", "--out", str(tmp_path / "short")]) == 0
    assert "note: the file of --config warms up for 1 epoch, and 1 epoch was asked for" in capsys.readouterr().out
    recipe = read_yaml(tmp_path / "short" / "recipe.yaml")
    assert (recipe["epochs"], recipe["warmup_epochs"]) == (1, 0.5)
