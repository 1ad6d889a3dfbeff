"""Supernets that learn stored soft labels: the same steps as with the teacher at hand, killed or not."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from sret_nas.errors import UserError
from sret_nas.nn.supernet import Supernet
from tests.forked import Forked
from tests.trials.supernet.tiny_supernet import config, spec, train_and_print_steps, trained
from tests.trials.training.stored_labels import logits_of, store_labels
from trials.data import PreparedData
from trials.distributed.processes import Processes
from trials.engines.file_transfer import DATA_DIR, SOFT_LABELS
from trials.supernet.config import SupernetConfig
from trials.supernet.job import TrainingJob
from trials.supernet.step import SupernetStep
from trials.supernet.training import SupernetTraining
from trials.training.losses import soft_cross_entropy
from trials.training.prepared_labels import SoftLabelSource

pytestmark = pytest.mark.slow

ALONE = Processes(0, 1, torch.device("cpu"))
SINGLE = config(images=10 * 32, step_rule="single")
"""Ten steps, of which an epoch has four; two epochs are labelled."""


@pytest.fixture(scope="module")
def labels(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> SoftLabelSource:
    return store_labels(tmp_path_factory.mktemp("labels") / "labels.soft", data, temperature=2.0)


class TaughtStep(SupernetStep):
    """A step with the teacher at hand, at temperature 2: its labels are the teacher's logits."""

    def _loss(self, logits: Tensor, labels: Tensor, teacher: Tensor | None) -> Tensor:
        if teacher is not None:
            return soft_cross_entropy(logits, teacher)
        return soft_cross_entropy(logits / 2.0, labels / 2.0)


def losses(data: PreparedData, how: SupernetConfig, labels: SoftLabelSource | None, targets: Any = None) -> list[float]:
    """Returns the losses of all steps. `targets` makes the labels of images, in place of the training's own."""
    training = SupernetTraining(Path(), spec(how, labels=labels), data, ALONE)
    if targets is not None:
        state = training.state
        state.step = TaughtStep(state.supernet, how, ALONE)
    found = []
    for images, own in islice(training.batches(0), training.steps):
        loss = training.train_step(images, own if targets is None else targets(images))
        assert loss is not None
        found.append(loss)
    return found


@pytest.mark.parametrize("how", [
    config(images=8 * 32, step_rule="single"),
    config(images=4 * 32, random_networks=1),  # the largest network learns the labels, and teaches the others
    config(images=4 * 32, step_rule="single", depth_schedule="joint", depth_distillation=True),
    config(images=4 * 32, step_rule="single", gradient_accumulation=4),
], ids=["single", "sandwich", "depths", "accumulated"])  # fmt: skip
def test_losses_are_those_with_the_teacher_at_hand(
    how: SupernetConfig, data: PreparedData, labels: SoftLabelSource
) -> None:
    """Up to float16, which the first steps have not multiplied yet."""
    stored = losses(data, how, labels)
    with_teacher = losses(data, how, None, logits_of)
    assert stored == pytest.approx(with_teacher, rel=2e-3)
    assert stored != pytest.approx(losses(data, how, None), rel=2e-3)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return Supernet.load(path)[0].state_dict()


def test_a_killed_training_carries_on_to_the_same_weights(
    data: PreparedData, labels: SoftLabelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed in the first epoch. A copy of what a kill would leave in the third, whose labels are those of the
    first again, is carried on, too; there the labels lie at another place."""
    whole = trained(tmp_path / "whole", data, SINGLE, labels=labels)
    process = Forked(lambda: train_and_print_steps(tmp_path / "killed", data, SINGLE, labels))
    next(line for line in process.stdout if int(line) == 2)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    train_step: Callable[..., float | None] = SupernetTraining.train_step

    def copied_late(self: SupernetTraining, *batch: torch.Tensor) -> float | None:
        if self.state.counts.steps == 9:
            shutil.copytree(tmp_path / "killed", tmp_path / "killed again")
        return train_step(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr("trials.supernet.training.CHECKPOINT_SECONDS", -1.0)  # every step leaves one
        patch.setattr(SupernetTraining, "train_step", copied_late)
        first = trained(tmp_path / "killed", data, SINGLE, labels=labels)
    moved = labels.model_copy(update={"path": str(shutil.copy(labels.path, tmp_path / "moved.soft"))})
    again = trained(tmp_path / "killed again", data, SINGLE, labels=moved)
    expected = weights(whole)
    for other in (first, again):
        found = weights(other)
        assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_a_training_with_other_labels_is_another_one(
    data: PreparedData, labels: SoftLabelSource, tmp_path: Path
) -> None:
    how = config(images=2 * 32, step_rule="single")
    trained(tmp_path / "with", data, how, labels=labels)
    trained(tmp_path / "without", data, how)
    assert trained(tmp_path / "with", data, how, labels=labels).is_file()
    with pytest.raises(UserError, match="is of a training with another soft labels: it was None, got"):
        trained(tmp_path / "without", data, how, labels=labels)
    with pytest.raises(UserError, match=r"is of a training with another soft labels: it was \w{64}, got None"):
        trained(tmp_path / "with", data, how)


def test_on_another_machine_it_reads_the_copies_that_came_with_it(
    data: PreparedData, labels: SoftLabelSource, tmp_path: Path
) -> None:
    """As a process on Ray does, whose machine has neither the images nor the labels at their own places."""
    how = config(images=2 * 32, step_rule="single")
    whole = trained(tmp_path / "here", data, how, labels=labels)
    of_it = {name: getattr(spec(how), name) for name in ("space", "budget", "proxy", "config", "seed")}
    nowhere = labels.model_copy(update={"path": "/nowhere/labels.soft"})
    job = TrainingJob(**of_it, soft_labels=nowhere, data_dir=Path("/nowhere/data"), device="cpu", threads=1)
    assert job.inputs == {"data_dir": "/nowhere/data", "soft_labels": {"path": "/nowhere/labels.soft"}}
    copies = {DATA_DIR: data.directory, SOFT_LABELS: Path(labels.path)}
    assert job.measure(ALONE, copies).parameters > 0
    path = job.train(tmp_path / "there", Console(quiet=True), copies)
    found, expected = weights(path), weights(whole)
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    with pytest.raises(UserError, match=r"/nowhere/labels\.soft: the soft labels .* are not on this machine"):
        job.train(tmp_path / "lost", Console(quiet=True), {DATA_DIR: data.directory})
