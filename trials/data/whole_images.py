"""Images of a data set at full resolution, decoded each time they are asked for: what whole trainings read.

Parts, classes and split are those of `prepare`, with the same seeds, so a network that a search found is trained on the
images that its trials were trained on, and tested on images that no trial has seen.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, count
from typing import TYPE_CHECKING, Literal

import numpy as np

from sret_nas.arrays import IntArray
from sret_nas.errors import UserError
from sret_nas.plurals import counted

from .config import DataConfig
from .decode import UNREADABLE, has_colour, to_whole_image, without_warnings
from .image_memory import ImageMemory
from .preparation import find_source
from .source import PARTS, Samples
from .splitting import split

if TYPE_CHECKING:
    from PIL import Image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet's channels, by which pretrained networks usually have their images standardised."""


class UnreadableImageError(UserError):
    """An image cannot be decoded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WholePart:
    """The images of one part, in an order of which every prefix is stratified by class."""

    samples: Samples
    indices: IntArray
    """Positions of the part's images in `samples`."""
    labels: IntArray
    """Class of each image, in the order of `indices`."""
    name: str = ""
    """Of the part, in the memory."""
    memory: ImageMemory | None = None
    """Keeps what has been decoded; None decodes each time."""

    def __len__(self) -> int:
        return len(self.indices)

    def load(self, index: int, mode: Literal["L", "RGB"]) -> Image.Image:
        """Returns an image with 8 bits per channel. Raises `UnreadableImageError`, which names the file."""
        if self.memory is None:
            return self._decode(index, mode)
        return self.memory.get(self.name, index, mode, lambda: self._decode(index, mode))

    def _decode(self, index: int, mode: Literal["L", "RGB"]) -> Image.Image:
        position = int(self.indices[index])
        try:
            with without_warnings(), self.samples.load(position) as image:
                return to_whole_image(image, mode)
        except UNREADABLE as error:
            name = self.samples.name(position)
            raise UnreadableImageError(f"{name}: cannot be read: {error or type(error).__name__}; mend it") from None

    def is_in_colour(self, index: int) -> bool:
        """Returns whether an image is in colour, from its header. Raises `UnreadableImageError`."""
        position = int(self.indices[index])
        try:
            with without_warnings(), self.samples.load(position) as image:
                return has_colour(image)
        except UNREADABLE as error:
            name = self.samples.name(position)
            raise UnreadableImageError(f"{name}: cannot be read: {error or type(error).__name__}; mend it") from None


@dataclass(frozen=True, kw_only=True, eq=False)
class WholeImages:
    """A data set, split but not decoded."""

    config: DataConfig
    class_names: tuple[str, ...]
    flip: bool
    """Whether a mirrored image keeps its class."""
    parts: Mapping[str, WholePart]
    origins: Mapping[str, str]
    """The origin of each part, in words."""
    notes: tuple[str, ...]
    """Lines for people that say how the source was understood."""

    @classmethod
    def find(cls, config: DataConfig) -> WholeImages:
        """Finds and splits the images of a configuration, whose `image_size` has no effect. Decodes none.

        Raises `UserError` if the source does not exist or cannot be split.
        """
        found = find_source(config)
        source = found.open()
        selections = split(source, config)
        parts = {
            name: WholePart(
                samples=selection.samples,
                indices=selection.indices,
                labels=selection.samples.labels[selection.indices],
            )
            for name, selection in selections.items()
        }
        return cls(
            config=config,
            class_names=source.class_names,
            flip=source.flip if config.flip is None else config.flip,
            parts=parts,
            origins={name: selection.origin for name, selection in selections.items()},
            notes=found.notes,
        )

    def in_memory(self) -> WholeImages:
        """Returns these images with a memory in which decoded ones stay, as far as there is room."""
        memory = ImageMemory()
        parts = {name: replace(part, name=name, memory=memory) for name, part in self.parts.items()}
        return replace(self, parts=parts)

    @property
    def train(self) -> WholePart:
        return self.parts["train"]

    @property
    def val(self) -> WholePart:
        return self.parts["val"]

    @property
    def test(self) -> WholePart:
        return self.parts["test"]

    @cached_property
    def channels(self) -> Literal[1, 3]:
        """3 if an image of any part is in colour, else 1. Reads headers up to the first image in colour."""
        return 3 if any(part.is_in_colour(index) for part in self.parts.values() for index in range(len(part))) else 1

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the classes and of the names and labels of all parts, in hexadecimal.

        It does not depend on the folder in which the images lie, nor on the pixels.
        """
        digest = hashlib.sha256(json.dumps(self.class_names).encode())
        for name in PARTS:
            part = self.parts[name]
            digest.update(part.labels.astype("<i8").tobytes())
            for index in part.indices:
                digest.update(os.fsencode(part.samples.names[int(index)]) + b"\0")
        return digest.hexdigest()

    def mean_and_std(self, channels: Literal[1, 3], count: int = 1024) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns mean and standard deviation of each channel over the first training images, pixels in [0, 1].

        Each image has the same weight, whatever its size. The deviation is at least 1/255. Raises
        `UnreadableImageError`.
        """
        mode = mode_of(channels)
        means, squares = [], []
        for index in range(min(count, len(self.train))):
            pixels = np.asarray(self.train.load(index, mode), dtype=np.float64).reshape(-1, channels) / 255
            means.append(pixels.mean(axis=0))
            squares.append((pixels**2).mean(axis=0))
        mean = np.mean(means, axis=0)
        std = np.sqrt(np.maximum(np.mean(squares, axis=0) - mean**2, 0))
        return tuple(mean.tolist()), tuple(np.maximum(std, 1 / 255).tolist())

    def summary(self) -> str:
        """Returns one line: the images of each part, and the number of classes."""
        counts = ", ".join(f"{len(self.parts[name]):,} {name} ({self.origins[name]})" for name in PARTS)
        return f"{counts}; {counted(len(self.class_names), 'class', 'classes')}"


def padded_names(names: tuple[str, ...], classes: int) -> tuple[str, ...]:
    """Returns the names of a network's classes: those of the data, then one for each class that the data lack.

    These are `class 3` and so on, by their position, with a number behind them where the data have that name.
    """
    padded, taken = list(names), set(names)
    for position in range(len(names), classes):
        plain = f"class {position}"
        numbered = (f"{plain} ({number})" for number in count(2))
        name = next(name for name in chain([plain], numbered) if name not in taken)
        padded.append(name)
        taken.add(name)
    return tuple(padded)


def mode_of(channels: Literal[1, 3]) -> Literal["L", "RGB"]:
    """Returns Pillow's mode for images with that number of channels."""
    return "L" if channels == 1 else "RGB"
