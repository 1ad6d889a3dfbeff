"""The images on which a loss landscape is computed: prepared once, and the same at every point.

A folder of plain files, which travels to workers as the prepared images of a search do. `plain` holds images as they
are evaluated, `augmented` training images as a training sees them (augmented, mixed, smoothed labels), and
`calibration` the images for the stem's BatchNorm statistics. Each is missing where it is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.format import open_memmap
from torch import Tensor

from sret_nas.arrays import IntArray
from sret_nas.errors import UserError
from sret_nas.files import digest_of_file, write_atomically
from sret_nas.json_files import read_json
from sret_nas.nn.model_directory import Preprocessing

from ..data.image_files import image_batches
from ..data.whole_images import WholeImages
from .full_recipe import Recipe

MANIFEST = "images.json"
PLAIN, AUGMENTED, CALIBRATION = "plain", "augmented", "calibration"

PREPARED_AT_ONCE = 64
"""Images that are in memory while a folder is written, and the batch in which augmented images are mixed."""


@dataclass(frozen=True)
class LandscapeImages:
    """The images of a folder, read from the disk as they are needed."""

    arrays: dict[str, Any]
    """Images (N, C, H, W) float32 of each kind, and their targets as `KIND-targets`: classes, or probabilities."""

    @classmethod
    def open(cls, folder: Path, digest: str) -> LandscapeImages:
        """Opens a folder that `prepare_images` wrote. Raises `UserError` if a file is missing, or has changed since."""
        if digest_of_file(folder / MANIFEST) != digest:
            raise UserError(f"{folder} does not hold the images that the landscape was begun with")
        arrays = {}
        for name, known in read_json(folder / MANIFEST).items():
            path = folder / f"{name}.npy"
            if digest_of_file(path) != known:
                raise UserError(f"{path}: has changed since the landscape was begun: put a copy of it back")
            arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        return cls(arrays)

    def batches(self, kind: str, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields images with their targets, in order: ((B, C, H, W), (B,) or (B, classes))."""
        images, targets = self.arrays[kind], self.arrays[f"{kind}-targets"]
        for start in range(0, len(images), batch_size):
            stop = start + batch_size
            yield torch.from_numpy(images[start:stop].copy()), torch.from_numpy(targets[start:stop].copy())

    def calibration(self, batch_size: int) -> Iterator[Tensor]:
        """Yields the images for the stem's statistics, in order."""
        for images, _ in self.batches(CALIBRATION, batch_size):
            yield images


@dataclass(frozen=True, kw_only=True)
class ImagesRequest:
    """Which images are prepared, and how."""

    images: WholeImages
    preprocessing: Preprocessing
    classes: int
    label_of: IntArray
    """The network's class for each class of the data."""
    part: str
    """The part whose images `plain` holds."""
    count: int
    """Images of `plain` and `augmented`, at most those that there are."""
    recipe: Recipe | None
    """How training images are augmented; None for no `augmented`."""
    calibration: int
    """Training images of `calibration`; 0 for none."""
    seed: int
    threads: int

    @property
    def sizes(self) -> dict[str, int]:
        """The number of images of each kind."""
        augmented = min(self.count, len(self.images.train))
        if self.recipe is not None and self.recipe.mixes:
            augmented -= augmented % 2  # timm mixes pairs
        sizes = {
            PLAIN: min(self.count, len(self.images.parts[self.part])),
            AUGMENTED: 0 if self.recipe is None else augmented,
            CALIBRATION: min(self.calibration, len(self.images.train)),
        }
        return {kind: size for kind, size in sizes.items() if size > 0}


def prepare_images(folder: Path, request: ImagesRequest) -> str:
    """Writes the images into a folder that exists, and returns the digest of its content.

    Raises `UnreadableImageError` for an image that cannot be decoded, and `OSError` if the disk is full.
    """
    sizes = request.sizes
    for kind, size in sizes.items():
        _write(folder, kind, size, _augmented(request, size) if kind == AUGMENTED else _plain(request, kind, size))
    names = [name for kind in sizes for name in (kind, f"{kind}-targets")]
    digests = {name: digest_of_file(folder / f"{name}.npy") for name in names}
    write_atomically(folder / MANIFEST, json.dumps(digests, indent=2) + "\n")
    return digest_of_file(folder / MANIFEST)


def _write(folder: Path, kind: str, size: int, batches: Iterator[tuple[Any, Any]]) -> None:
    """Writes batches of images and targets as two arrays, a batch at a time."""
    written = 0
    images_file = targets_file = None
    for images, targets in batches:
        if images_file is None:
            images_file = open_memmap(folder / f"{kind}.npy", "w+", images.dtype, (size, *images.shape[1:]))
            targets_file = open_memmap(folder / f"{kind}-targets.npy", "w+", targets.dtype, (size, *targets.shape[1:]))
        assert targets_file is not None
        images_file[written : written + len(images)] = images
        targets_file[written : written + len(images)] = targets
        written += len(images)
    assert images_file is not None
    assert targets_file is not None
    images_file.flush()
    targets_file.flush()


def _plain(request: ImagesRequest, kind: str, size: int) -> Iterator[tuple[Any, Any]]:
    """Yields images as they are evaluated, with the network's classes."""
    part = request.images.parts[request.part] if kind == PLAIN else request.images.train
    batches = image_batches(
        part, range(size), request.preprocessing, batch_size=PREPARED_AT_ONCE, threads=request.threads
    )
    for images, labels in batches:
        yield images, request.label_of[labels]


def _augmented(request: ImagesRequest, size: int) -> Iterator[tuple[Any, Any]]:
    """Yields one view of each of the first training images, with probabilities as targets."""
    from .augmentation import Mixing, training_transform  # here, as workers read images alone and do without timm
    from .image_batches import AugmentedImages, all_views

    recipe, images = request.recipe, request.images
    assert recipe is not None
    transform = training_transform(recipe, request.preprocessing, images.flip)
    views = AugmentedImages(images.train, transform, request.preprocessing.channels, request.seed)
    mixing = Mixing(recipe, request.classes, request.seed)
    label_of = torch.from_numpy(request.label_of)
    smoothing = recipe.label_smoothing
    for number, (batch, labels) in enumerate(all_views(views, PREPARED_AT_ONCE, range(size), workers=0)):
        mixed, targets = mixing(batch, label_of[labels], number, 0)
        if not mixing.is_on:
            targets = F.one_hot(targets, request.classes) * (1 - smoothing) + smoothing / request.classes
        yield mixed.numpy(), targets.float().numpy()
