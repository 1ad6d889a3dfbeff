"""What a supernet learns from a teacher, and what that costs it. The teacher is a linear map: timm is not needed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from benchmarks.ranking import supernets, teacher
from benchmarks.ranking.pass_times import PassTimes
from benchmarks.ranking.setting import PROXY, SPACE, networks
from sret_nas.arch.budget import Budget
from sret_nas.nn.supernet import Supernet
from sret_nas.space.supernet_shape import bounding_shape
from trials.data import DataConfig, prepare
from trials.distributed.processes import Processes
from trials.supernet.spec import TrainingSpec
from trials.supernet.training import train_supernet

CONFIG = supernets.config_of({}, 6 * 16).model_copy(
    update={"training": supernets.config_of({}, 6 * 16).training.model_copy(update={"batch_size": 16})}
)


def linear(classes: int, channels: int = 3) -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * SPACE.image_size**2, classes))


@pytest.mark.slow
def test_a_step_learns_the_teacher_s_probabilities_and_nothing_of_the_labels() -> None:
    arch, images = networks()[0], torch.randn(16, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    probabilities = teacher.logits_of(linear(10), images).softmax(1)
    torch.manual_seed(0)
    start = Supernet(bounding_shape(SPACE)).train()
    start.fresh_permutations = False
    expected = -(probabilities * start(images, arch).log_softmax(1)).sum(1).mean().item()
    ends = []
    for labels in (torch.zeros(16, dtype=torch.int64), torch.arange(16) % 10):
        torch.manual_seed(0)
        supernet = Supernet(bounding_shape(SPACE)).train()
        supernet.fresh_permutations = False
        step = teacher.TaughtStep(supernet, CONFIG, Processes(0, 1, torch.device("cpu")), linear(10))
        assert step([arch], images, labels, 1e-3) == pytest.approx(expected, rel=1e-5)
        ends.append(supernet.head.weight.detach().clone())
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], start.head.weight)


@pytest.mark.slow
def test_a_taught_supernet_is_another_and_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepare(DataConfig(image_size=24, max_train=80, max_val=60, max_test=10), tmp_path / "data", None)
    monkeypatch.setattr(teacher, "build", lambda classes: linear(classes, data.channels))
    torch.save(linear(10, data.channels).state_dict(), tmp_path / "teacher.pt")
    taught = teacher.Teacher(tmp_path / "teacher.pt", 0.1)
    quiet = Console(quiet=True)
    heads = []
    for name in ("one", "again"):
        (tmp_path / name).mkdir()
        path = taught.train_supernet(tmp_path / name, Budget(), CONFIG, data, 0, quiet)
        assert Supernet.load(path)[1]["teacher"] == teacher.NAME
        heads.append(Supernet.load(path)[0].head.weight)
    (tmp_path / "plain").mkdir()
    spec = TrainingSpec(space=SPACE, budget=Budget(), proxy=PROXY, config=CONFIG, seed=0)
    path = train_supernet(tmp_path / "plain", spec, data, device="cpu", threads=1, console=quiet)
    assert torch.equal(*heads)
    assert not torch.equal(heads[0], Supernet.load(path)[0].head.weight)


@pytest.mark.slow
def test_a_teacher_s_pass_counts_in_every_step_and_only_in_runs_that_have_one() -> None:
    times = PassTimes(batch_size=10, weights=(1.0, 0.0, 0.0, 0.0), step=0.5, r2=1.0)
    assert times.images(CONFIG, 105) == 10 * 70
    assert times.images(CONFIG, 105, teaching=0.6) == 10 * 50
    assert supernets.Run(supernets.TAUGHT, 0, 120).changes == supernets.VARIANTS["balanced draws"]
    assert supernets.Run("uniform draws", 0, 120).changes == {"subnet_sampling": "uniform"}


def test_only_runs_without_a_line_are_missing(tmp_path: Path) -> None:
    there, other_seed = supernets.Run("single", 0, 120), supernets.Run("single", 1, 120)
    path = tmp_path / "lines.jsonl"
    assert supernets.missing([there, other_seed], path) == [there, other_seed]
    path.write_text('{"variant": "single", "seed": 0, "seconds": 120}\n')
    assert supernets.missing([there, other_seed], path) == [other_seed]
