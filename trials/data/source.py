"""What every source of images offers, wherever its images come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

IntArray = npt.NDArray[np.int64]

PARTS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Labelled images that are not decoded yet. Must be safe to load from several threads."""

    where: str
    """Where they come from, for people: a folder, or the name of a set and of its split."""
    names: Sequence[str]
    """One name per image, unique and lasting: the split depends on it, and on nothing else of the image."""
    labels: IntArray
    """(n,) class numbers."""
    load: Callable[[int], Image.Image]

    def name(self, index: int) -> str:
        return f"{self.where}/{self.names[index]}"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set as it is found: its classes, and the parts it comes in.

    `parts` has the keys `train`; `train` and `test`; or all three of `PARTS`. What is missing is split off `train`.
    """

    class_names: tuple[str, ...]
    parts: Mapping[str, Samples]
    flip: bool
    """Whether a mirrored image keeps its class."""
    passed_over: tuple[str, ...] = ()
    """Files that lie among the images and are none, by their extension."""


@dataclass(frozen=True, kw_only=True)
class FoundSource:
    """A source that is known to be there but not read yet."""

    fingerprint: str
    """Changes whenever the source's files do; empty for sources whose content is fixed by their name."""
    open: Callable[[], Source]
    notes: tuple[str, ...] = ()
    """How it was understood, and what of it is not read, for people: a line each."""
