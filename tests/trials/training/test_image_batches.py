"""Augmented images and mixing are pure functions of seeds, in whatever process."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sret_nas.nn.model_directory import Preprocessing
from tests.trials.training.tiny_training import BUSY, DATA, recipe
from trials.data import DataConfig
from trials.data.whole_images import UnreadableImageError, WholeImages
from trials.training.augmentation import Mixing, evaluation_transform, training_transform
from trials.training.image_batches import (
    AugmentedImages,
    BatchPlan,
    EvaluatedImages,
    View,
    evaluation_batches,
    training_microbatches,
)

GREY = Preprocessing(image_size=16, mean=(0.3,), std=(0.4,))
COLOUR = Preprocessing(image_size=24, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


@pytest.fixture(scope="module")
def images() -> WholeImages:
    return WholeImages.find(DATA)


def augmented(images: WholeImages, preprocessing: Preprocessing = GREY, seed: int = 0, **changes: Any) -> Any:
    transform = training_transform(recipe(**{**BUSY, **changes}), preprocessing, flip=True)
    return AugmentedImages(images.train, transform, preprocessing.channels, seed)


def disturb_generators() -> None:
    random.random()
    np.random.rand(3)
    torch.rand(3)


ALL_SECTIONS = ("rand-m9-n3-mstd0.5-mmax12-p0.5-inc0-tweights", "augmix-m5-w4-d2-a0.5-b1-mstd1", "original-mstd0.5")


@pytest.mark.parametrize(
    "policy", ["rand-m9-mstd0.5-inc1", "rand-m10-n4-inc1", "v0", "augmix-m5-w2", "3a", *ALL_SECTIONS]
)
@pytest.mark.parametrize("preprocessing", [GREY, COLOUR], ids=["grey", "colour"])
def test_an_augmented_image_depends_on_seed_epoch_and_index_alone(
    policy: str, preprocessing: Preprocessing, images: WholeImages
) -> None:
    views = [View(epoch, image, copy) for epoch in range(2) for image in range(5) for copy in range(2)]
    first = augmented(images, preprocessing, auto_augment=policy)
    once = [first[view] for view in views]
    disturb_generators()
    second = augmented(images, preprocessing, auto_augment=policy)
    for view, (image, label) in zip(reversed(views), reversed(once), strict=True):
        again, label_again = second[view]
        assert torch.equal(image, again)
        assert label == label_again == images.train.labels[view.image]
        assert image.shape == (preprocessing.channels, preprocessing.image_size, preprocessing.image_size)
    assert len({image.numpy().tobytes() for image, _ in once}) > 15  # 20 views; a few may be equal by chance


def test_another_seed_gives_other_images(images: WholeImages) -> None:
    view = View(0, 3)
    assert not torch.equal(augmented(images)[view][0], augmented(images, seed=1)[view][0])


@pytest.mark.slow
def test_processes_that_read_images_change_nothing(images: WholeImages) -> None:
    plan = BatchPlan(num_images=48, batch_size=16, repeats=2, seed=0, num_microbatches=2)
    read = []
    for workers in (0, 2):
        with closing(
            training_microbatches(augmented(images), plan, range(2), range(2, 5), workers=workers)
        ) as microbatches:
            read.append(list(microbatches))
    assert len(read[0]) == 6
    for (one, labels), (two, labels_of_two) in zip(*read, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(labels, labels_of_two)


def test_an_epoch_sees_each_image_as_often_as_it_repeats() -> None:
    plan = BatchPlan(num_images=50, batch_size=8, repeats=1, seed=0, num_microbatches=1)
    seen = [view for step in range(plan.steps_per_epoch) for view in plan.views(step)]
    assert len({view.image for view in seen}) == len(seen) == 48
    assert plan.views(0) != [view._replace(epoch=0) for view in plan.views(plan.steps_per_epoch)]
    repeated = BatchPlan(num_images=50, batch_size=8, repeats=3, seed=0, num_microbatches=2)
    views = [view for step in range(6) for view in repeated.views(step)]
    assert len({view.image for view in views}) == 16
    assert len(set(views)) == 48
    assert sorted(repeated.microbatch(0, 0) + repeated.microbatch(0, 1)) == sorted(repeated.views(0))


def test_mixing_depends_on_seed_step_and_part_alone() -> None:
    images, labels = torch.rand(8, 1, 6, 6), torch.arange(8)
    mixing = Mixing(recipe(**BUSY), classes=10, seed=3)
    mixed = [mixing(images.clone(), labels, step, part) for step in range(4) for part in range(2)]
    disturb_generators()
    for index, (image, target) in enumerate(mixed):
        again, target_again = Mixing(recipe(**BUSY), 10, 3)(images.clone(), labels, *divmod(index, 2))
        assert torch.equal(image, again)
        assert torch.equal(target, target_again)
        torch.testing.assert_close(target.sum(dim=1), torch.ones(8))
    assert len({image.numpy().tobytes() for image, _ in mixed}) == 8


def test_nothing_is_mixed_without_mixup_and_cutmix() -> None:
    images, labels = torch.rand(3, 1, 6, 6), torch.arange(3)
    same, targets = Mixing(recipe(), classes=10, seed=0)(images, labels, 0, 0)
    assert same is images
    assert targets is labels


def test_evaluation_sees_the_whole_square(images: WholeImages) -> None:
    """Resizing to the digits' own 8 x 8 pixels leaves them as they are."""
    preprocessing = Preprocessing(image_size=8, mean=(0.5,), std=(0.25,))
    part = EvaluatedImages(images.val, evaluation_transform(preprocessing), 1)
    (batch, labels), (rest, _) = evaluation_batches(part, range(1, 20), 16, workers=0)
    assert (len(batch), len(rest)) == (16, 3)
    pixels = np.asarray(images.val.load(1, "L"), dtype=np.float32) / 255
    np.testing.assert_allclose(batch[0, 0].numpy(), (pixels - 0.5) / 0.25, rtol=1e-5)
    assert labels.tolist() == images.val.labels[1:17].tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named(workers: int, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(5):
            Image.new("RGB", (20, 12), (index, 0, 0)).save(tmp_path / name / f"{index}.png")
    found = WholeImages.find(DataConfig(source=str(tmp_path)))
    position = int(found.train.indices[2])
    damaged = tmp_path / found.train.samples.names[position]
    damaged.write_bytes(damaged.read_bytes()[:50])
    plan = BatchPlan(num_images=6, batch_size=6, repeats=1, seed=0, num_microbatches=1)
    with (
        closing(
            training_microbatches(augmented(found, COLOUR), plan, range(1), range(1), workers=workers)
        ) as microbatches,
        pytest.raises(UnreadableImageError, match=rf"{damaged.name}: cannot be read: .*; mend it"),
    ):
        next(microbatches)
