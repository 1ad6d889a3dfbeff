"""Splits a data set into disjoint training, validation and test parts, stratified by class.

The split depends only on a hash of the split seed and the images' names. So it is the same on every machine, whatever
the order of files in a file system and the random number generators of libraries.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sret_nas.arrays import IntArray
from sret_nas.errors import ConfigError, UserError

from .config import DataConfig
from .source import PARTS, Samples, Source

ByClass = list[IntArray]
"""For each class, the indices of its images."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The images of one part, in their order on disk."""

    samples: Samples
    indices: IntArray
    origin: str
    """The origin of the part, in words."""


def split(source: Source, config: DataConfig) -> dict[str, Selection]:
    """Returns the three parts of a source. Existing parts are kept; missing ones are split off `train`.

    Raises `UserError` if a class has too few images, and `ConfigError` if a limit is below the number of classes.
    """
    _require_all_classes(source)
    fractions = {"test": config.test_fraction, "val": config.val_fraction}
    missing = {part: fraction for part, fraction in fractions.items() if part not in source.parts}
    selections = {}
    for part, samples in source.parts.items():
        by_class = shuffled_by_class(samples, len(source.class_names), config.split_seed)
        if part == "train" and missing:
            carved = carve(by_class, missing, source.class_names, samples.where)
        else:
            carved = {part: by_class}
        for name, chosen in carved.items():
            indices = interleave(chosen)[: _limit(config, name, len(source.class_names))]
            origin = _origin(samples.where, name if name in missing else "", missing if part == "train" else {})
            selections[name] = Selection(samples=samples, indices=indices, origin=origin)
    return {part: selections[part] for part in PARTS}


def shuffled_by_class(samples: Samples, num_classes: int, seed: int) -> ByClass:
    """Returns the images of each class, in an order that depends only on the seed and their names."""
    ranks = [hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest() for name in samples.names]
    order = np.array(sorted(range(len(ranks)), key=ranks.__getitem__), dtype=np.int64)
    labels = samples.labels[order]
    return [order[labels == label] for label in range(num_classes)]


def carve(by_class: ByClass, fractions: Mapping[str, float], names: tuple[str, ...], where: str) -> dict[str, ByClass]:
    """Returns a fraction of every class (at least one image) for each part in `fractions`, and the rest for `train`.

    Raises `UserError` if nothing is left of a class.
    """
    parts: dict[str, ByClass] = {part: [] for part in ("train", *fractions)}
    for name, images in zip(names, by_class, strict=True):
        start = 0
        for part, fraction in fractions.items():
            stop = start + max(1, round(len(images) * fraction))
            parts[part].append(images[start:stop])
            start = stop
        if start >= len(images):
            shares = " and ".join(f"{fraction:.0%} for {part}" for part, fraction in fractions.items())
            raise UserError(
                f"{where}: class {name!r} has too few images to take {shares} and leave one to train on, "
                f"got {len(images)}; add images to the class, or remove it"
            )
        parts["train"].append(images[start:])
    return parts


def interleave(by_class: ByClass) -> IntArray:
    """Returns all images in an order of which every prefix is stratified by class.

    First comes one image of every class; the rest follows Webster's method of apportionment, by which a longer prefix
    never has fewer images of any class.
    """
    label = np.concatenate([np.full(len(images), class_index) for class_index, images in enumerate(by_class)])
    rank = np.concatenate([np.arange(len(images)) for images in by_class])
    share = (rank + 0.5) / np.array([len(images) for images in by_class])[label]
    return np.concatenate(by_class)[np.lexsort((label, share, rank > 0))]


def _require_all_classes(source: Source) -> None:
    """Raises `UserError` unless the training part has images of at least two, and of all, classes."""
    if len(source.class_names) < 2:
        raise UserError(
            f"{source.parts['train'].where}: there must be at least two classes to tell apart, "
            f"got {list(source.class_names)}"
        )
    train = source.parts["train"]
    counts = np.bincount(train.labels, minlength=len(source.class_names))
    empty = [name for name, count in zip(source.class_names, counts, strict=True) if count == 0]
    if empty:
        raise UserError(f"{train.where}: every class must have images, got none of {_listed(empty)}")


def _limit(config: DataConfig, part: str, num_classes: int) -> int | None:
    limit: int | None = getattr(config, f"max_{part}")
    if limit is not None and limit < num_classes:
        rule = f"at least the number of classes ({num_classes}), so that every class occurs"
        raise ConfigError("data", f"max_{part}", f"must be {rule}, got {limit}")
    return limit


def _origin(where: str, carved: str, missing: Mapping[str, float]) -> str:
    if carved:
        return f"{missing[carved]:.0%} of each class of {where}"
    return f"the rest of {where}" if missing else where


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
