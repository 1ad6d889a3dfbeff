"""The trained network that a user names: a model directory, a training's or a search's run, a YAML file, or weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.nn.model_directory import Preprocessing, find_model_directory, is_model_directory, read_model
from sret_nas.nn.network import SReT
from sret_nas.yaml_files import read_yaml

from ..console import Console
from ..data import DataConfig
from ..data.dataset_cache import PREPARED_DATA, cached_dataset
from ..data.prepared import METADATA, Metadata

BEST = "best.yaml"
"""The file of a search's run with its best network."""

MAX_ANCESTORS = 3
"""Folders above a YAML file in which prepared images are looked for."""


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
    notes: tuple[str, ...] = ()
    """Lines for people that say what was read."""

    def with_mean_and_std(self, mean: tuple[float, ...], std: tuple[float, ...]) -> TrainedNetwork:
        """Returns the network with these constants of its images' channels. Raises `UserError` if they do not fit."""
        arch = self.network.arch
        if not len(mean) == len(std) == arch.channels:
            raise UserError(
                f"--mean and --std must have {arch.channels} value(s), one per channel, got {len(mean)} and {len(std)}"
            )
        known = self.preprocessing or Preprocessing(image_size=arch.image_size, mean=mean, std=std)
        return replace(self, preprocessing=known.model_copy(update={"mean": mean, "std": std}))

    def with_images_of(self, config: DataConfig, console: Console) -> TrainedNetwork:
        """Returns the network with the constants and class names of a data set, which is prepared if necessary.

        Raises `UserError` if its channels or classes are not the network's.
        """
        _, data = cached_dataset(self.path.absolute().parent, config, console)
        require_same_classes(self, data.class_names, config.source)
        if data.channels != self.network.arch.channels:
            raise UserError(
                f"{config.source}: its images have {data.channels} channel(s), but {self.path} takes "
                f"{self.network.arch.channels}"
            )
        return replace(self.with_mean_and_std(data.mean, data.std), class_names=data.class_names)


def require_same_classes(trained: TrainedNetwork, class_names: tuple[str, ...], source: str) -> None:
    """Raises `UserError` unless a data set has the classes of the network."""
    classes, own = trained.network.arch.classes, trained.class_names
    if len(class_names) != classes:
        raise UserError(f"{source}: it has {len(class_names):,} classes, but {trained.path} has {classes:,}")
    if own is not None and own != class_names:
        index = next(i for i, (ours, theirs) in enumerate(zip(own, class_names, strict=True)) if ours != theirs)
        raise UserError(
            f"{source}: its class {index} is {class_names[index]!r}, but that of {trained.path} is {own[index]!r}"
        )


def recursion_limit(given: tuple[int, ...]) -> int | tuple[int, ...]:
    """Returns the value of `--recursions` as networks take it: a single number is for all stages."""
    return given[0] if len(given) == 1 else given


def load_trained(path: Path) -> TrainedNetwork:
    """Returns the network that a path names. Raises `UserError` if there is none, or it has no weights."""
    if path.is_dir():
        return _from_directory(path)
    if path.suffix in (".yaml", ".yml"):
        return _from_yaml(path)
    return TrainedNetwork(network=SReT.load(path), path=path, preprocessing=None, class_names=None, reads=(path,))


def _from_directory(path: Path) -> TrainedNetwork:
    if not is_model_directory(path) and (path / BEST).is_file():
        return _from_yaml(path / BEST)
    directory = find_model_directory(path)
    network, info = read_model(directory)
    return TrainedNetwork(
        network=network, path=directory, preprocessing=info.preprocessing, class_names=info.class_names,
        reads=(directory,), notes=() if directory == path else (f"Network: {directory}",),
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
    network = SReT.load(weights)
    notes = [f"Weights: {weights}"]
    if network.arch.arch_id != arch.arch_id:
        one = network.arch
        notes.append(
            f"The weights are those of the proxy that was trained in place of {arch.arch_id}: "
            f"{one.arch_id}, {one.image_size} px, {one.classes} classes"
        )
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
