"""Stored labels of prepared images: every training sees what the teacher saw, and files of other images are refused."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sret_nas.errors import UserError
from tests.trials.training.stored_labels import logits_of, store_labels
from trials.data import DataConfig, PreparedData, num_training_batches, prepare
from trials.training.losses import soft_cross_entropy, taught_cross_entropy
from trials.training.prepared_batches import endless_batches
from trials.training.prepared_labels import PreparedLabels, SoftLabelSource
from trials.training.recipe import TrainingConfig

BATCH = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    config = DataConfig(image_size=16, max_train=150, max_val=20, max_test=10)
    return prepare(config, tmp_path_factory.mktemp("data"), None)


@pytest.fixture(scope="module")
def source(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> SoftLabelSource:
    """Returns two epochs of labels at temperature 2."""
    return store_labels(tmp_path_factory.mktemp("labels") / "labels.soft", data, temperature=2.0)


@pytest.fixture(scope="module")
def labels(source: SoftLabelSource, data: PreparedData) -> PreparedLabels:
    return source.open(data)


def first_batches(
    data: PreparedData, labels: PreparedLabels | None, steps: int, **how: Any
) -> list[tuple[Tensor, Tensor]]:
    settings: dict[str, Any] = {"batch_size": BATCH, "seed": 0, "first": 0, **how}
    return list(islice(endless_batches(data.train, labels, **settings), steps))


def test_images_are_those_without_labels_and_the_loss_is_that_with_the_teacher_at_hand(
    data: PreparedData, labels: PreparedLabels
) -> None:
    """For the stored epochs bit for bit; the loss up to float16."""
    steps = 2 * num_training_batches(data.train, batch_size=BATCH)
    plain, taught = (first_batches(data, which, steps) for which in (None, labels))
    generator = torch.Generator().manual_seed(1)
    for (images, classes), (same, targets) in zip(plain, taught, strict=True):
        assert torch.equal(images, same)
        assert (classes.shape, targets.shape, targets.dtype) == ((BATCH,), (BATCH, 10), torch.float32)
        student = torch.randn(BATCH, 10, generator=generator)
        with_teacher = soft_cross_entropy(student / 2.0, logits_of(images) / 2.0)
        assert taught_cross_entropy(student, targets, 2.0).item() == pytest.approx(with_teacher.item(), rel=2e-4)


def views_of(batches: list[tuple[Tensor, Tensor]]) -> set[bytes]:
    return {image.numpy().tobytes() for images, _ in batches for image in images}


def test_a_longer_training_sees_the_stored_epochs_again_in_another_order(
    data: PreparedData, labels: PreparedLabels
) -> None:
    whole = 75  # half of the images: no remainder is dropped
    batches = first_batches(data, labels, 6, batch_size=whole)
    epochs = [batches[start : start + 2] for start in (0, 2, 4)]
    first, second, third = (views_of(epoch) for epoch in epochs)
    assert first == third != second
    assert not torch.equal(epochs[0][0][0], epochs[2][0][0])
    rows_of = [
        {image.numpy().tobytes(): row for batch in epoch for image, row in zip(*batch, strict=True)}
        for epoch in (epochs[0], epochs[2])
    ]
    assert len(rows_of[0]) == 150
    assert all(torch.equal(row, rows_of[1][image]) for image, row in rows_of[0].items())


def test_trials_with_seeds_of_their_own_see_the_same_views_in_their_own_order(
    data: PreparedData, labels: PreparedLabels
) -> None:
    one, two = (first_batches(data, labels, 2, batch_size=75, seed=seed) for seed in (5, 6))
    assert views_of(one) == views_of(two)
    assert not torch.equal(one[0][0], two[0][0])


def test_a_search_with_another_seed_sees_the_views_of_the_labels(data: PreparedData, tmp_path: Path) -> None:
    of_three, of_five = (store_labels(tmp_path / f"{seed}.soft", data, seed=seed).open(data) for seed in (3, 5))
    theirs = first_batches(data, of_three, 2, batch_size=75, seed=3)
    ours = first_batches(data, of_three, 2, batch_size=75, seed=5)
    others = first_batches(data, of_five, 2, batch_size=75, seed=5)
    assert views_of(ours) == views_of(theirs) != views_of(others)
    assert not torch.equal(ours[0][0], theirs[0][0])


def test_a_training_begins_anywhere_and_processes_share_its_batches(data: PreparedData, labels: PreparedLabels) -> None:
    whole = first_batches(data, labels, 11)  # an epoch has 4 steps
    for first in (3, 4, 9):
        for ours, theirs in zip(first_batches(data, labels, 11 - first, first=first), whole[first:], strict=True):
            assert all(map(torch.equal, ours, theirs))
    shares = [first_batches(data, labels, 11, shard=(rank, 2)) for rank in range(2)]
    for first_half, second_half, together in zip(*shares, whole, strict=True):
        pieces = zip(first_half, second_half, together, strict=True)
        assert all(torch.equal(torch.cat([one, other]), both) for one, other, both in pieces)


def test_epochs_of_a_training() -> None:
    assert TrainingConfig(images=320, batch_size=32).num_epochs(150) == 3  # 10 steps, 4 an epoch
    assert TrainingConfig(images=256, batch_size=32).num_epochs(150) == 2
    assert TrainingConfig(images=60, batch_size=64).num_epochs(30) == 2  # a batch is all images


def test_people_are_told_when_epochs_are_used_again(source: SoftLabelSource, labels: PreparedLabels) -> None:
    told = f"{source.path}, 2 epochs of the teacher a teacher at temperature 2"
    assert labels.describe(2) == told
    assert labels.describe(5) == f"{told}; 5 epochs of training use them again"


def test_records_of_earlier_versions_hold_the_seed_as_well(source: SoftLabelSource) -> None:
    assert SoftLabelSource.model_validate({**source.model_dump(), "seed": 0}) == source


class TestWrongFiles:
    @pytest.mark.parametrize(("config", "difference"), [
        ({"image_size": 24}, "whose image size is 16, not 24"),
        ({"max_train": 140}, r"whose images \(digest\) is '[0-9a-f]{16}', not '[0-9a-f]{16}'"),
        ({"split_seed": 1}, r"whose images \(digest\) is '[0-9a-f]{16}', not '[0-9a-f]{16}'"),
        ({"flip": True}, "whose mirroring is False, not True"),
    ])  # fmt: skip
    def test_of_other_images(
        self, config: dict[str, Any], difference: str, source: SoftLabelSource, tmp_path: Path
    ) -> None:
        fields = {"image_size": 16, "max_train": 150, "max_val": 20, "max_test": 10, **config}
        other = prepare(DataConfig(**fields), tmp_path / "data", None)
        with pytest.raises(UserError, match=f"labels.soft: holds soft labels of other images, {difference}: give --d"):
            SoftLabelSource.of(source.path, other)

    def test_of_whole_trainings_or_other_classes(self, data: PreparedData, tmp_path: Path) -> None:
        train = store_labels(tmp_path / "train.soft", data, views={"seed": 0})
        with pytest.raises(UserError, match=r"train\.soft: .* that `train` sees: make others with --for search"):
            PreparedLabels(Path(train.path), data)
        few = tmp_path / "few.soft"
        store_labels(few, data, top=5, classes=11)
        with pytest.raises(UserError, match="holds labels of 11 classes, but the images have 10"):
            PreparedLabels(few, data)

    def test_that_are_missing_or_changed(self, source: SoftLabelSource, data: PreparedData, tmp_path: Path) -> None:
        gone = source.model_copy(update={"path": str(tmp_path / "gone.soft")})
        with pytest.raises(UserError, match=r"gone\.soft: the soft labels of the training are not on this machine"):
            gone.open(data)
        with pytest.raises(UserError, match="there is no such file"):
            SoftLabelSource.of(gone.path, data)
        other = store_labels(tmp_path / "other.soft", data, epochs=1)
        with pytest.raises(UserError, match="holds other soft labels than those that the training was begun with"):
            source.model_copy(update={"path": other.path}).open(data)

    def test_whose_teacher_saw_other_views(self, data: PreparedData, tmp_path: Path) -> None:
        """As with a version of torch that draws other shifts from a seed."""
        wrong = store_labels(tmp_path / "wrong.soft", data, seed=3)
        content = Path(wrong.path).read_bytes().replace(b'"seed": 3', b'"seed": 0', 1)
        Path(wrong.path).write_bytes(content)
        labels = SoftLabelSource.of(wrong.path, data).open(data)
        with pytest.raises(UserError, match="the teacher saw another image in epoch 0 at position"):
            first_batches(data, labels, 1)
