"""The trained network that a user names: a model directory, a training's or a search's run, a YAML file, or weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.presets import is_preset
from sret_nas.arrays import IntArray
from sret_nas.errors import UserError, describe
from sret_nas.nn.exported_model import is_exported
from sret_nas.nn.model_directory import (
    Preprocessing,
    directory_of_weights,
    find_model_directory,
    is_model_directory,
    read_model,
)
from sret_nas.nn.network import SReT
from sret_nas.plurals import counted
from sret_nas.yaml_files import read_yaml

from ..data.dataset_cache import PREPARED_DATA
from ..data.prepared import METADATA, Metadata
from ..data.whole_images import WholeImages

BEST = "best.yaml"
"""The file of a search's run with its best network."""

MAX_ANCESTORS = 3
"""Folders above a YAML file in which prepared images are looked for."""

MAX_NAMED = 5
"""Classes listed in a message."""


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A network with its weights, on the CPU, and what is known of its images."""

    network: SReT
    path: Path
    """The file or folder that was named, or found in a run."""
    preprocessing: Preprocessing | None
    class_names: tuple[str, ...] | None
    reads: tuple[Path, ...]
    """The files and folders that were read."""
    recipe: Mapping[str, Any] | None = None
    """How it was trained, as its model directory says; None if that is not known."""
    notes: tuple[str, ...] = ()
    """Lines for people that say what was read."""

    @property
    def is_complete(self) -> bool:
        """Whether it is known how images are standardised, and what the classes are called."""
        return self.preprocessing is not None and self.class_names is not None

    def with_mean_and_std(self, mean: tuple[float, ...], std: tuple[float, ...]) -> TrainedNetwork:
        """Returns the network with these constants of its images' channels. Raises `UserError` if they do not fit."""
        arch = self.network.arch
        if not len(mean) == len(std) == arch.channels:
            raise UserError(
                f"--mean and --std must have {counted(arch.channels, 'value')}, one per channel, got {len(mean)} and "
                f"{len(std)}"
            )
        known = self.preprocessing or Preprocessing(image_size=arch.image_size, mean=mean, std=std)
        return replace(self, preprocessing=known.model_copy(update={"mean": mean, "std": std}))

    def with_images_of(self, images: WholeImages) -> TrainedNetwork:
        """Returns the network with the mean, deviation and class names of a data set's training part.

        Raises `UserError` if its classes are not the network's, or images cannot be read.
        """
        channels = self.network.arch.channels
        if channels not in (1, 3):
            raise UserError(f"{images.config.source}: images have 1 or 3 channels, but {self.path} takes {channels}")
        _, class_names = match_classes(self, images.class_names, images.config.source)
        mean, std = images.mean_and_std(1 if channels == 1 else 3)
        return replace(self.with_mean_and_std(mean, std), class_names=class_names)

    def completed_by(self, images: WholeImages) -> TrainedNetwork:
        """Returns the network with what is not known of its images and classes taken from a data set.

        Raises `UserError` as `with_images_of`.
        """
        if self.preprocessing is None:
            return self.with_images_of(images)
        if self.class_names is None:
            return replace(self, class_names=match_classes(self, images.class_names, images.config.source)[1])
        return self


def match_classes(trained: TrainedNetwork, names: tuple[str, ...], source: str) -> tuple[IntArray, tuple[str, ...]]:
    """Returns the network's class for each class of the data, and all names in the network's order.

    Classes are matched by name, whatever their order. The data may lack some. A network without class names takes them
    in the data's order.

    Raises `UserError` if the data have classes that the network does not know, or another number of classes than a
    network without names.
    """
    return match_names(trained.class_names, trained.network.arch.classes, trained.path, names, source)


def match_names(
    known: tuple[str, ...] | None, classes: int, path: Path, names: tuple[str, ...], source: str
) -> tuple[IntArray, tuple[str, ...]]:
    """Returns what `match_classes` does, for the names and number of the classes of a network in a file.

    Raises `UserError` as it does.
    """
    if known is None:
        if len(names) != classes:
            raise UserError(f"{source}: has {len(names):,} classes, but {path} has {classes:,}, without names")
        return np.arange(classes), names
    index = {name: position for position, name in enumerate(known)}
    unknown = [name for name in names if name not in index]
    if unknown:
        listed = ", ".join(describe(name) for name in unknown[:MAX_NAMED])
        more = f" and {len(unknown) - MAX_NAMED:,} more" if len(unknown) > MAX_NAMED else ""
        examples = ", ".join(describe(name) for name in known[:MAX_NAMED])
        raise UserError(
            f"{source}: its classes {listed}{more} are none of the {classes:,} of {path}, such as {examples}: "
            "name the folders of the classes as in its training, or give other images with --data"
        )
    return np.array([index[name] for name in names], np.int64), known


def recursion_limit(given: tuple[int, ...]) -> int | tuple[int, ...]:
    """Returns the value of `--recursions` as networks take it: a single number is for all stages."""
    return given[0] if len(given) == 1 else given


def load_trained(path: Path) -> TrainedNetwork:
    """Returns the network that a path names. Raises `UserError` if there is none, or it has no weights."""
    if path.exists() and is_exported(path):
        raise UserError(f"{path}: is an exported model, which `predict` alone takes: name what it was made of")
    if path.is_dir():
        return _from_directory(path)
    if is_preset(str(path)) and not path.exists():
        raise UserError(f"{path} is a preset without weights: train it, or convert a checkpoint")
    if path.suffix in (".yaml", ".yml"):
        return _from_yaml(path)
    if (directory := directory_of_weights(path)) is not None:
        return _from_directory(directory)
    return TrainedNetwork(network=SReT.load(path), path=path, preprocessing=None, class_names=None, reads=(path,))


def _from_directory(path: Path) -> TrainedNetwork:
    if not is_model_directory(path) and (path / BEST).is_file():
        return _from_yaml(path / BEST)
    directory = find_model_directory(path)
    network, info = read_model(directory)
    return TrainedNetwork(
        network=network, path=directory, preprocessing=info.preprocessing, class_names=info.class_names,
        recipe=info.recipe, reads=(directory,), notes=() if directory == path else (f"Network: {directory}",),
    )  # fmt: skip


def _from_yaml(path: Path) -> TrainedNetwork:
    """Returns the network of a result file with the weights that lie beside it, or where the file says."""
    arch, data = ArchConfig.from_yaml(path), read_yaml(path)
    weights = next((file for file in _weights_of(path, data) if file.is_file()), None)
    if weights is None:
        raise UserError(
            f"{path}: has no trained weights beside it, such as {path.with_suffix('.safetensors').name}: give a model "
            "directory, a training's run, or a file of weights"
        )
    directory = directory_of_weights(weights)
    network, info = (SReT.load(weights), None) if directory is None else read_model(directory)
    notes = [f"Weights: {weights}"]
    if network.arch.arch_id != arch.arch_id:
        one = network.arch
        notes.append(
            f"The weights are those of the proxy that was trained in place of {arch.arch_id}: "
            f"{one.arch_id}, {one.image_size} px, {one.classes} classes"
        )
    if info is not None:
        return TrainedNetwork(
            network=network, path=path, preprocessing=info.preprocessing, class_names=info.class_names,
            recipe=info.recipe, reads=(path, weights.parent), notes=tuple(notes),
        )  # fmt: skip
    prepared = _prepared_images(path, data)
    preprocessing = None
    if prepared is not None:
        preprocessing = Preprocessing(
            image_size=prepared.config.image_size, mean=prepared.mean, std=prepared.std, crop_fraction=1.0
        )
    return TrainedNetwork(
        network=network, path=path, preprocessing=preprocessing, reads=(path, weights), notes=tuple(notes),
        class_names=None if prepared is None else prepared.class_names,
    )  # fmt: skip


def _weights_of(path: Path, data: Any) -> Iterator[Path]:
    """Yields where the weights of a result file may lie."""
    yield path.with_suffix(".safetensors")
    provenance = data.get("provenance") if isinstance(data, dict) else None
    for key in ("weights", "proxy_weights"):
        name = provenance.get(key) if isinstance(provenance, dict) else None
        if isinstance(name, str) and not Path(name).is_absolute() and ".." not in Path(name).parts:
            yield path.parent / name
            yield path.parent.parent / name  # from `pareto/`, the run directory


def _prepared_images(path: Path, data: Any) -> Metadata | None:
    """Returns what is known of the images that a result's weights were trained on, if they are still prepared."""
    digest = _text_at(data, "recipe", "data", "digest") or _text_at(data, "provenance", "data_digest")
    if digest is None:
        return None
    for folder in list(path.absolute().parents)[:MAX_ANCESTORS]:
        for found in sorted((folder / PREPARED_DATA).glob(f"*/{METADATA}")):
            try:
                metadata = Metadata.read(found.parent)
            except UserError:
                continue  # of another version, or damaged: then it is as if there were none
            if metadata.digest == digest:
                return metadata
    return None


def _text_at(data: Any, *keys: str) -> str | None:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, str) else None
