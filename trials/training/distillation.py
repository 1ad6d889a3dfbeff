"""Distillation with soft labels: what a teacher says of an image takes the place of the image's class.

The loss is the cross-entropy of softmax(teacher / T) and softmax(student / T) (Shen et al., SReT, section 4.3). It is
not multiplied by T^2, because there is no second term to balance. Studies can mix in the image's own class, to compare
the two: the cross-entropy is linear in the labels, so that the mean of both labels has the mean of both losses.

The labels come from a teacher that runs beside the training, from a file that `soft-labels make` wrote, or from files
of FKD. With mixup and CutMix a teacher sees the mixed images; stored labels are mixed as the images are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor
from torch.utils.data import Dataset

from sret_nas.errors import UserError
from sret_nas.nn.model_directory import Preprocessing

from ..data.whole_images import UnreadableImageError, WholeImages, mode_of
from .augmentation import evaluation_transform
from .fkd_labels import FKDLabels, view_of
from .full_recipe import Recipe
from .image_batches import AugmentedImages, View
from .soft_labels import Floats, SoftLabels
from .teachers import Teacher, load_teacher

LabelledItem = tuple[Tensor, Floats] | str
"""An image and its probabilities (classes,), or why it cannot be read."""

_AUGMENTATION = (
    "crop_scale", "crop_ratio", "horizontal_flip", "vertical_flip", "color_jitter", "auto_augment", "random_erasing",
    "erasing_mode",
)  # fmt: skip
"""Values of a recipe that decide how a view looks. Mixing comes after the labels."""

_BICUBIC, _BILINEAR, _MIRROR = 3, 2, 0
"""Pillow's `Resampling` and `Transpose`."""


def identify_views(
    images: WholeImages, recipe: Recipe, preprocessing: Preprocessing, seed: int
) -> dict[str, JsonValue]:
    """Returns everything that decides which images a training sees, as plain data: equal data, equal views."""
    return {
        "seed": seed,
        "images (digest)": images.digest[:16],
        "image size": preprocessing.image_size,
        "mean": [round(value, 6) for value in preprocessing.mean],
        "std": [round(value, 6) for value in preprocessing.std],
        "interpolation": preprocessing.interpolation,
        "mirroring": images.flip,
        **{name.replace("_", " "): value for name, value in recipe.model_dump(mode="json").items()
           if name in _AUGMENTATION},
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Labels by a teacher, from one of three sources."""

    temperature: float
    teacher: Teacher | None = None
    stored: SoftLabels | None = None
    fkd: FKDLabels | None = None
    hard_share: float = 0.0
    """Share of the images' own classes in the labels, beside a teacher that runs; 0 to below 1."""

    images: WholeImages | None = None
    """The images that FKD's files label; None leaves their digest out of the identity."""

    @cached_property
    def identity(self) -> dict[str, JsonValue]:
        """The data that identify the labels: with the same identity, they are the same.

        Raises `UserError` if an image lacks its file of FKD.
        """
        if self.teacher is not None:
            hard: dict[str, JsonValue] = {"share of classes": self.hard_share} if self.hard_share else {}
            return {"teacher": self.teacher.digest or self.teacher.name, "temperature": self.temperature, **hard}
        if self.stored is not None:
            return {"soft labels": hashlib.sha256(self.stored.header.encode()).hexdigest()}
        if self.fkd is None or self.images is None:
            return {"soft labels": "FKD"}
        names = [_fkd_name(self.images, index) for index in range(len(self.images.train))]
        # Checkpoints of earlier versions lack the digest, and are not compared with it (`first_mismatch`).
        return {"soft labels": "FKD", "files (digest)": self.fkd.digest(names)}

    @property
    def distinct_epochs(self) -> int | None:
        """The number of epochs after which views and labels repeat; None if they never do."""
        return None if self.stored is None else self.stored.header.epochs

    @property
    def seed_of_views(self) -> int | None:
        """The seed with which images are augmented; None if that is the training's own."""
        return None if self.stored is None else self.stored.header.seed

    def labelled(
        self, augmented: AugmentedImages, images: WholeImages, preprocessing: Preprocessing, seed: int
    ) -> Dataset[Any]:
        """Returns the training images with the labels that are stored; those of a teacher follow in each step."""
        if self.stored is not None:
            return SoftLabelledImages(augmented, self.stored)
        if self.fkd is not None:
            return FKDImages(images, self.fkd, preprocessing, seed)
        return augmented


class SoftLabelledImages(Dataset[LabelledItem]):
    """Training images with stored labels. An item is a pure function of seed, labels and `View`."""

    def __init__(self, augmented: AugmentedImages, labels: SoftLabels) -> None:
        self._augmented, self._labels = augmented, labels

    def __getitem__(self, view: View) -> LabelledItem:
        return self.__getitems__([view])[0]

    def __getitems__(self, views: Sequence[View]) -> list[LabelledItem]:
        """Returns several items at once, as torch's loader asks for them: NumPy costs the same for one and for many."""
        images = []
        for view in views:
            item = self._augmented[view]
            if isinstance(item, str):
                return [item]
            images.append(item[0])
        epochs, indices = np.array([view.epoch for view in views]), np.array([view.image for view in views])
        try:
            self._labels.require_images(epochs, indices, torch.stack(images).numpy())
            return list(zip(images, self._labels.targets(epochs, indices), strict=True))
        except UserError as error:
            return [str(error)]


class FKDImages(Dataset[LabelledItem]):
    """Training images as FKD's teacher saw them: the crop and the flip come from the files, as the labels do."""

    def __init__(self, images: WholeImages, labels: FKDLabels, preprocessing: Preprocessing, seed: int) -> None:
        self._images, self._part, self._labels, self._seed = images, images.train, labels, seed
        self._mode = mode_of(1 if preprocessing.channels == 1 else 3)
        self._size = (preprocessing.image_size, preprocessing.image_size)
        self._resampling = _BILINEAR if preprocessing.interpolation == "bilinear" else _BICUBIC
        self._transform = evaluation_transform(preprocessing.model_copy(update={"crop_fraction": 1.0}))

    def __getitem__(self, view: View) -> LabelledItem:
        name = _fkd_name(self._images, view.image)
        try:
            image = self._part.load(view.image, self._mode)
            stored = self._labels.read(name)
        except (UnreadableImageError, UserError) as error:
            return str(error)
        number = view_of(self._seed, view.epoch, view.image, len(stored))
        top, left, height, width = stored.crops[number]
        right, bottom = round((left + width) * image.width), round((top + height) * image.height)
        box = (
            round(left * image.width), round(top * image.height), min(right, image.width), min(bottom, image.height),
        )  # fmt: skip
        if box[0] >= box[2] or box[1] >= box[3]:
            return f"{self._labels.file_of(name)}: its crop {number} has no pixels in an image of {image.size}"
        image = image.resize(self._size, self._resampling, box=box)
        if stored.flips[number]:
            image = image.transpose(_MIRROR)  # type: ignore[arg-type]  # an enumeration in a library that stays in `data`
        return self._transform(image), self._labels.targets(stored, np.array([number]))[0]


def _fkd_name(images: WholeImages, index: int) -> str:
    """Returns the name of a training image as FKD's files are called: `CLASS/NAME.EXTENSION`."""
    part = images.train
    file = Path(part.samples.names[int(part.indices[index])]).name
    return f"{images.class_names[int(part.labels[index])]}/{file}"


def distillation_of(
    *,
    teacher: str | None,
    teacher_checkpoint: Path | None,
    temperature: float,
    soft_labels: Path | None,
    classes: int,
    images: WholeImages,
    recipe: Recipe,
    preprocessing: Preprocessing,
    device: torch.device,
    hard_share: float = 0.0,
) -> Distillation | None:
    """Returns the labels that a training takes from a teacher; None if the images' classes are the labels.

    Raises `UserError` if a teacher or stored labels cannot be read, or are of other classes or images.
    """
    if teacher is not None:
        loaded = load_teacher(teacher, teacher_checkpoint, images.class_names, classes).adapt_to(preprocessing)
        return Distillation(temperature=temperature, teacher=loaded.to(device), hard_share=hard_share)
    if soft_labels is None:
        return None
    if recipe.repeated_augmentation != 1:
        raise UserError(
            f"--soft-labels needs --repeated-augmentation 1, because there is one label for each image and epoch, got "
            f"{recipe.repeated_augmentation}"
        )
    if soft_labels.is_dir():
        return Distillation(temperature=1.0, fkd=FKDLabels(soft_labels, classes), images=images)
    stored = SoftLabels(soft_labels)
    if stored.header.classes != classes:
        raise UserError(
            f"{soft_labels}: holds labels of {stored.header.classes:,} classes, but the network has {classes:,}"
        )
    if stored.header.made_for != "train":
        raise UserError(
            f"{soft_labels}: holds soft labels of the images that a {stored.header.made_for} sees: make others with "
            "--for train"
        )
    stored.require_views(identify_views(images, recipe, preprocessing, stored.header.seed))
    return Distillation(temperature=stored.header.temperature, stored=stored)
