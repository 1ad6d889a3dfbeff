"""What happens to an image before a network sees it, by timm's transforms, and the mixing of a batch's images.

All of it is a pure function of seeds: the same (seed, epoch, image, copy) gives the same tensor in any process, and the
same (seed, step, part) mixes a batch in the same way. Resuming is exact for that reason, and stored soft labels can be
matched to the images that a teacher saw.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from timm.data import create_transform
from timm.data.auto_augment import AugmentOp, posterize
from timm.data.mixup import Mixup
from torch import Tensor

from sret_nas.nn.model_directory import Preprocessing

from ..data.image_files import without_far_ends
from ..seeds import seed_from
from .full_recipe import Recipe

if TYPE_CHECKING:
    from PIL import Image

ImageTransform = Callable[["Image.Image"], Tensor]
"""Maps an image to (channels, H, W), standardised."""


def seed_generators(text: str) -> None:
    """Seeds the global generators of Python, NumPy and torch (on the CPU) from a text.

    timm's transforms draw from the first two, torchvision's from the last. Their states are not restored, which would
    take as long as a small image's augmentation: whatever draws from them after this must seed them as well.
    """
    seed = seed_from(text)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would seed GPUs as well


def training_transform(recipe: Recipe, preprocessing: Preprocessing, flip: bool) -> ImageTransform:
    """Returns the random transform of training images; `flip` says whether a mirrored image keeps its class."""
    transform = create_transform(
        input_size=preprocessing.image_size,
        is_training=True,
        scale=recipe.crop_scale,
        ratio=recipe.crop_ratio,
        hflip=recipe.horizontal_flip if flip else 0.0,
        vflip=recipe.vertical_flip if flip else 0.0,
        color_jitter=recipe.color_jitter or None,  # type: ignore[arg-type]  # annotated too narrowly
        auto_augment=recipe.auto_augment,
        interpolation=preprocessing.interpolation,
        mean=preprocessing.mean,
        std=preprocessing.std,
        re_prob=recipe.random_erasing,
        re_mode=recipe.erasing_mode,
    )
    for operation in _operations(transform):
        if operation.aug_fn is posterize:
            operation.aug_fn = _posterize
    whole: ImageTransform = transform
    return whole


def _operations(transform: Any) -> list[AugmentOp]:
    """Returns the operations of the policies in a transform (RandAugment, AutoAugment, AugMix)."""
    found: list[AugmentOp] = []
    for part in transform.transforms:
        found += getattr(part, "ops", [])
        for operations in getattr(part, "policy", []):
            found += operations
    return found


def _posterize(image: Image.Image, bits_to_keep: int, **arguments: Any) -> Image.Image:
    """Keeps at least one bit. timm asks for none at high magnitudes, which newer versions of Pillow refuse."""
    reduced: Image.Image = posterize(image, max(1, bits_to_keep), **arguments)
    return reduced


def evaluation_transform(preprocessing: Preprocessing) -> ImageTransform:
    """Returns the transform of images that are evaluated: resized, cropped to the centred square, standardised."""
    transform: Any = create_transform(
        input_size=preprocessing.image_size,
        is_training=False,
        interpolation=preprocessing.interpolation,
        mean=preprocessing.mean,
        std=preprocessing.std,
        crop_pct=preprocessing.crop_fraction,
    )
    side = math.floor(preprocessing.image_size / preprocessing.crop_fraction)
    transform.transforms.insert(0, partial(without_far_ends, side=side))
    whole: ImageTransform = transform
    return whole


class Mixing:
    """Mixes the images of a batch, and their labels (mixup and CutMix), or does nothing if a recipe mixes none."""

    def __init__(self, recipe: Recipe, classes: int, seed: int) -> None:
        self._seed = seed
        self._mixup: Mixup | None = None
        self._soft_mixup: Mixup | None = None
        if recipe.mixes:
            arguments: dict[str, Any] = {
                "mixup_alpha": recipe.mixup, "cutmix_alpha": recipe.cutmix, "prob": recipe.mix_probability,
                "switch_prob": recipe.mix_switch_probability, "mode": recipe.mix_mode, "num_classes": classes,
            }  # fmt: skip
            self._mixup = Mixup(**arguments, label_smoothing=recipe.label_smoothing)
            self._soft_mixup = Mixup(**arguments, label_smoothing=0.0, multi_label=True)

    @property
    def is_on(self) -> bool:
        return self._mixup is not None

    def __call__(self, images: Tensor, labels: Tensor, step: int, part: int) -> tuple[Tensor, Tensor]:
        """Mixes images (B, C, H, W), in place, with B even.

        Args:
            images: the images.
            labels: their classes (B,), or probabilities (B, classes), which are mixed without smoothing.
            step: of the training.
            part: of the step's batch: each process computes its parts of it one after the other.

        Returns images and targets: smoothed and mixed probabilities (B, classes), or the labels if nothing is mixed.
        """
        mixup = self._mixup if labels.ndim == 1 else self._soft_mixup
        if mixup is None:
            return images, labels
        seed_generators(f"mixing {self._seed}/{step}/{part}")
        mixed: tuple[Tensor, Tensor] = mixup(images, labels)
        return mixed
