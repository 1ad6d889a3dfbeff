"""Trainings with soft labels: from a teacher, stored, and FKD's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from sret_nas import SReT
from sret_nas.errors import UserError
from tests.trials.training import tiny_training
from tests.trials.training.tiny_training import ARCH, recipe, spec, weights
from trials.data.whole_images import WholeImages
from trials.distributed.processes import process_group
from trials.training.augmentation import Mixing, training_transform
from trials.training.distillation import Distillation, FKDImages, distillation_of, identify_views
from trials.training.fkd_labels import FKDLabels, view_of
from trials.training.full import FullTraining
from trials.training.full_spec import FullSpec
from trials.training.full_state import DepthTask
from trials.training.image_batches import AugmentedImages, BatchPlan, View, all_views
from trials.training.soft_labels import SoftLabelHeader, SoftLabels, SoftLabelWriter, fingerprints
from trials.training.teachers import Teacher


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images() -> WholeImages:
    return WholeImages.find(tiny_training.DATA)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(1)
    network = SReT(ARCH)
    torch.nn.init.normal_(network.head.weight, std=1.0)  # so that probabilities differ
    return Teacher(network, "tiny", "digest", 16, (0.3,), (0.4,)).adapt_to(spec({}).preprocessing)


def augmented(images: WholeImages, how: FullSpec) -> AugmentedImages:
    transform = training_transform(how.recipe, how.preprocessing, images.flip)
    return AugmentedImages(images.train, transform, how.arch.channels, how.seed)


def store(path: Path, images: WholeImages, how: FullSpec, teacher: Teacher, epochs: int) -> SoftLabels:
    """Returns the stored labels of a training, all classes of each view."""
    number = len(images.train)
    header = SoftLabelHeader(
        teacher="tiny", teacher_digest=None, temperature=2.0, classes=10, top=10, images=number, epochs=epochs,
        views=identify_views(images, how.recipe, how.preprocessing, how.seed), versions={},
    )  # fmt: skip
    with SoftLabelWriter(path, header) as writer:
        for batch, _ in all_views(augmented(images, how), 20, range(number * epochs), workers=0):
            writer.append(teacher(batch, 2.0).numpy(), fingerprints(batch.numpy()))
        writer.finish()
    return SoftLabels(path)


def train(directory: Path, how: FullSpec, images: WholeImages, labels: Distillation) -> dict[str, torch.Tensor]:
    with process_group("cpu") as processes:
        FullTraining(directory, how, images, processes, None, labels).run(Console(quiet=True))
    return weights(directory)


@pytest.mark.slow
def test_stored_labels_train_as_their_teacher_does(images: WholeImages, teacher: Teacher, tmp_path: Path) -> None:
    """Up to float16, in which probabilities are stored; and other labels train otherwise."""
    how = spec({"random_erasing": 0.5}, "sandwich")
    stored = store(tmp_path / "labels", images, how, teacher, epochs=2)
    taught = train(tmp_path / "taught", how, images, Distillation(temperature=2.0, teacher=teacher))
    replayed = train(tmp_path / "replayed", how, images, Distillation(temperature=2.0, stored=stored))
    hot = train(tmp_path / "hot", how, images, Distillation(temperature=1.0, teacher=teacher))
    name = "head.weight"
    torch.testing.assert_close(replayed[name], taught[name], rtol=0, atol=1e-4)
    assert (hot[name] - taught[name]).abs().max() > 1e-3


@pytest.mark.slow
def test_a_training_with_another_seed_sees_the_views_of_the_labels(
    images: WholeImages, teacher: Teacher, tmp_path: Path
) -> None:
    """If it saw views of its own, it would end: the teacher saw others."""
    how = spec({"random_erasing": 0.5})
    path = tmp_path / "labels"
    store(path, images, how, teacher, epochs=2)
    labels = distillation_of(
        teacher=None, teacher_checkpoint=None, temperature=1.0, soft_labels=path, classes=10, images=images,
        recipe=how.recipe, preprocessing=how.preprocessing, device=torch.device("cpu"),
    )  # fmt: skip
    assert labels is not None
    one, other = (train(tmp_path / str(seed), replace(how, seed=seed), images, labels) for seed in (how.seed, 9))
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_the_loss_is_the_cross_entropy_at_the_temperature() -> None:
    how = spec({})
    with process_group("cpu") as processes:
        labels = Distillation(temperature=2.0, fkd=FKDLabels(Path(), 10))
        training = FullTraining(Path(), how, WholeImages.find(tiny_training.DATA), processes, None, labels)
    task: DepthTask = training.state.task
    batch, targets = torch.randn(4, 1, 16, 16), torch.rand(4, 10).softmax(1)
    training.state.network.eval()
    with torch.no_grad():
        result = task(batch, targets, 3)
    expected = -(targets * (result["output"] / 2).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(result["loss"], expected)


def test_a_longer_training_sees_the_labelled_views_again() -> None:
    plan = BatchPlan(num_images=6, batch_size=3, repeats=1, seed=0, num_microbatches=1, distinct_epochs=2)
    epochs = [{view.epoch for view in plan.views(step)} for step in range(10)]
    assert epochs == [{0}, {0}, {1}, {1}, {0}, {0}, {1}, {1}, {0}, {0}]
    order = [[view.image for step in (2 * epoch, 2 * epoch + 1) for view in plan.views(step)] for epoch in (0, 2)]
    assert order[0] != order[1]
    assert sorted(order[0]) == sorted(order[1]) == list(range(6))


@pytest.mark.parametrize(
    "changes", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0, "mix_mode": "elem"}]
)
def test_stored_labels_are_mixed_as_the_images_are(changes: dict[str, Any]) -> None:
    """One-hot probabilities mix as classes do, and the images are the same."""
    mixing = Mixing(recipe(**changes, label_smoothing=0.0), classes=5, seed=3)
    labels = torch.tensor([0, 4, 2, 1])
    batch = torch.rand(4, 3, 8, 8)
    hard, soft = mixing(batch.clone(), labels, 7, 0), mixing(batch.clone(), torch.eye(5)[labels], 7, 0)
    torch.testing.assert_close(soft, hard)
    assert not torch.equal(soft[1], torch.eye(5)[labels])
    smoothed = Mixing(recipe(**changes, label_smoothing=0.1), classes=5, seed=3)
    torch.testing.assert_close(smoothed(batch.clone(), torch.eye(5)[labels], 7, 0)[1], soft[1])


def test_another_image_than_the_teachers_ends_a_training(images: WholeImages, teacher: Teacher, tmp_path: Path) -> None:
    how = spec({})
    stored = store(tmp_path / "labels", images, how, teacher, epochs=1)
    other = replace(how, recipe=recipe(crop_scale=(0.2, 0.3)))
    with pytest.raises(UserError, match="whose crop scale is"):
        stored.require_views(identify_views(images, other.recipe, other.preprocessing, other.seed))
    with pytest.raises(
        UserError, match=r"the teacher saw another image in epoch 0 at position \d+: images have changed"
    ):
        train(tmp_path / "run", other, images, Distillation(temperature=1.0, stored=stored))


def test_everything_that_changes_a_view_identifies_it(images: WholeImages) -> None:
    def identity(seed: int = 0, size: int = 16, **changes: Any) -> dict[str, Any]:
        seen = spec({}).preprocessing.model_copy(update={"image_size": size})
        return identify_views(images, recipe(**changes), seen, seed)

    assert identity() == identity(mixup=0.8, label_smoothing=0.0, epochs=3, batch_size=8)
    changed = [
        identity(seed=1), identity(size=32), identity(crop_scale=(0.1, 1.0)), identity(crop_ratio=(1.0, 1.0)),
        identity(horizontal_flip=0.1), identity(vertical_flip=0.1), identity(color_jitter=0.1),
        identity(auto_augment="3a"), identity(random_erasing=0.1), identity(erasing_mode="const"),
    ]  # fmt: skip
    assert all(other != identity() for other in changed)


def test_fkd_crops_and_flips_as_its_files_say(images: WholeImages, tmp_path: Path) -> None:
    """The left half of an image, mirrored, against the same by slicing."""
    part, seen = images.train, spec({}).preprocessing.model_copy(update={"image_size": 4})
    index = 5
    name = Path(part.samples.names[int(part.indices[index])]).name.split(".")[0]
    path = tmp_path / images.class_names[int(part.labels[index])] / f"{name}.tar"
    path.parent.mkdir()
    crops = torch.tensor([[0.0, 0.0, 1.0, 0.5], [0.5, 0.5, 0.5, 0.5]])
    best = torch.tensor([[[3.0], [0.9]], [[4.0], [0.8]]])
    torch.save([crops, torch.tensor([True, False]), best], path)
    dataset = FKDImages(images, FKDLabels(tmp_path, 10), seen, seed=0)
    picture = np.asarray(part.load(index, "L"), np.float32)
    number = next(epoch for epoch in range(99) if view_of(0, epoch, index, 2) == 0)
    item = dataset[View(number, index)]
    assert not isinstance(item, str)
    whole = part.load(index, "L").crop((0, 0, picture.shape[1] // 2, picture.shape[0])).resize((4, 4), 3)
    expected = (np.asarray(whole, np.float32)[:, ::-1] / 255 - 0.3) / 0.4
    np.testing.assert_allclose(item[0][0].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(item[1], [0.1 / 9] * 3 + [0.9] + [0.1 / 9] * 6, rtol=1e-5)
    assert dataset[View(0, index + 1)] == f"{dataset._labels.file_of(_name(images, index + 1))}: there is no such file"


def test_an_fkd_crop_without_pixels_is_named_by_its_file(images: WholeImages, tmp_path: Path) -> None:
    labels = FKDLabels(tmp_path, 10)
    path = labels.file_of(_name(images, 5))
    path.parent.mkdir()
    torch.save([torch.full((1, 4), 1e-3), torch.tensor([True]), torch.tensor([[[3.0], [0.9]]])], path)
    item = FKDImages(images, labels, spec({}).preprocessing, seed=0)[View(0, 5)]
    assert item == f"{path}: its crop 0 has no pixels in an image of (8, 8)"


def _name(images: WholeImages, index: int) -> str:
    part = images.train
    name = Path(part.samples.names[int(part.indices[index])]).name
    return f"{images.class_names[int(part.labels[index])]}/{name}"
