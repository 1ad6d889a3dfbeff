"""The interface of a source of images: samples, parts and classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from sret_nas.arrays import IntArray

PARTS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Labelled images that are not decoded yet."""

    where: str
    """Their origin for messages: a folder, or the name of a data set and its split."""
    names: Sequence[str]
    """One name per image, unique and permanent, because the split depends on it."""
    labels: IntArray
    """Class indices, shape (n,)."""
    load: Callable[[int], Image.Image]
    """Opens the image of an index; it must be thread-safe."""

    def name(self, index: int) -> str:
        return f"{self.where}/{self.names[index]}"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set before it is split: its classes, and the parts that it has.

    The keys of `parts` are `train`; `train` and `test`; or all of `PARTS`. Missing parts are split off `train`.
    """

    class_names: tuple[str, ...]
    parts: Mapping[str, Samples]
    flip: bool
    """Whether a mirrored image keeps its class."""
    passed_over: tuple[str, ...] = ()
    """Files among the images without an image extension."""


@dataclass(frozen=True, kw_only=True)
class FoundSource:
    """A source that exists but was not read yet."""

    fingerprint: str
    """A digest that changes whenever the files do; empty if the content is fixed by the source's name."""
    open: Callable[[], Source]
    notes: tuple[str, ...] = ()
    """Lines for people that say how the source was understood, and what was ignored."""
