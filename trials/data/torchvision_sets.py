"""torchvision's classification data sets, read from local files; nothing is downloaded.

The validation part is split off their training split; their test split is the test part. Data sets with a validation
split (Flowers102, DTD, FGVCAircraft) keep their three splits. Data sets that are image folders on disk (ImageNet,
Imagenette, EuroSAT, Country211) are read as folders (`trials.data.folders`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sret_nas.arrays import IntArray
from sret_nas.errors import UserError

from .source import FoundSource, Samples, Source

_BY_FLAG = {"train": {"train": True}, "test": {"train": False}}
_BY_SPLIT = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE_SPLITS = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}


@dataclass(frozen=True)
class _TorchvisionSet:
    class_name: str
    """Name of the class in `torchvision.datasets`."""
    arguments: Mapping[str, Mapping[str, Any]]
    """Arguments of the class's constructor, for each part."""
    flip: bool
    """Whether a mirrored image keeps its class, which digits and letters do not."""


_SETS = (
    _TorchvisionSet("CIFAR10", _BY_FLAG, True),
    _TorchvisionSet("CIFAR100", _BY_FLAG, True),
    _TorchvisionSet("DTD", _THREE_SPLITS, True),
    _TorchvisionSet("FashionMNIST", _BY_FLAG, True),
    _TorchvisionSet("FGVCAircraft", _THREE_SPLITS, True),
    _TorchvisionSet("Flowers102", _THREE_SPLITS, True),
    _TorchvisionSet("Food101", _BY_SPLIT, True),
    _TorchvisionSet("KMNIST", _BY_FLAG, False),
    _TorchvisionSet("MNIST", _BY_FLAG, False),
    _TorchvisionSet("OxfordIIITPet", {"train": {"split": "trainval"}, "test": {"split": "test"}}, True),
    _TorchvisionSet("STL10", _BY_SPLIT, True),
    _TorchvisionSet("SVHN", _BY_SPLIT, False),
    _TorchvisionSet("USPS", _BY_FLAG, False),
)

TORCHVISION_SETS: dict[str, _TorchvisionSet] = {entry.class_name.lower(): entry for entry in _SETS}
"""Known data sets by torchvision's name in lower case."""


def find_torchvision_set(source: str, root: Path) -> FoundSource:
    """Returns a data set by name, e.g. `cifar10`; case, `-` and `_` do not matter.

    Raises `UserError` for an unknown name or a missing root. Opening the result raises it if files are missing.
    """
    name = source.lower().replace("-", "").replace("_", "")
    if name not in TORCHVISION_SETS:
        known = ", ".join(TORCHVISION_SETS)
        raise UserError(
            f"unknown torchvision set {source!r}; known are {known}; for an image folder, leave out the root"
        )
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; --data-root must be the folder with {source}'s files")
    return FoundSource(fingerprint="", open=partial(_open, TORCHVISION_SETS[name], root))


def _open(entry: _TorchvisionSet, root: Path) -> Source:
    sets = {part: _load(entry, root, arguments) for part, arguments in entry.arguments.items()}
    names = {part: _class_names(data_set) for part, data_set in sets.items()}
    if len(set(names.values())) > 1:
        raise UserError(f"{root}: the splits of {entry.class_name} must have the same classes, got {names}")
    return Source(
        class_names=names["train"],
        parts={part: _samples(entry, part, data_set) for part, data_set in sets.items()},
        flip=entry.flip,
    )


def _load(entry: _TorchvisionSet, root: Path, arguments: Mapping[str, Any]) -> Any:
    import torchvision.datasets  # imports torch, which takes seconds that the other sources save

    try:
        return getattr(torchvision.datasets, entry.class_name)(root=str(root), download=False, **arguments)
    except (RuntimeError, OSError) as error:
        reason = str(error).split(". You can use download")[0]  # advice that does not apply here
        raise UserError(
            f"{entry.class_name}: torchvision looked for its files under {root} and says: {reason}; "
            "this tool downloads nothing: have torchvision download the set there once, or correct the root"
        ) from None


def _labels(data_set: Any) -> IntArray:
    """Returns the labels of all images, for which torchvision has three names."""
    name = next(name for name in ("targets", "labels", "_labels") if hasattr(data_set, name))
    return np.asarray(getattr(data_set, name), dtype=np.int64)


def _class_names(data_set: Any) -> tuple[str, ...]:
    """Returns the names of the classes, or their numbers if the data set has no names."""
    names = getattr(data_set, "classes", None)
    return tuple(map(str, range(_labels(data_set).max() + 1) if names is None else names))


def _samples(entry: _TorchvisionSet, part: str, data_set: Any) -> Samples:
    def load(index: int) -> Image.Image:
        image: Image.Image = data_set[index][0]
        return image

    return Samples(
        where=f"{entry.class_name} {entry.arguments[part].get('split', part)}",
        names=[str(index) for index in range(len(data_set))],
        labels=_labels(data_set),
        load=load,
    )
