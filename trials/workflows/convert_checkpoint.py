"""`convert`: a checkpoint of the public code becomes a model directory, and a model directory such a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, StrictStr

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.bounded_files import read_text
from sret_nas.errors import UserError, describe, printable
from sret_nas.files import digest_of_file, validate
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, find_model_directory, read_model, write_model
from sret_nas.nn.network import SReT
from sret_nas.nn.public_checkpoints import ABOUT, PublicCheckpoint, read_public, write_public
from sret_nas.nn.public_variants import recognise
from sret_nas.output_files import require_free, require_new_folder
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity

from ..console import Console, print_line
from ..data.whole_images import IMAGENET_MEAN, IMAGENET_STD

CROP_FRACTION = 0.875
"""The public code evaluates the centred 224 of 256 pixels, and as much at other sizes."""

MAX_NAMES = 64 * 2**20
"""Maximum bytes of a file of class names."""


def convert_to_directory(
    checkpoint_path: Path, directory: Path, variant: str | None, class_names: Path | None, console: Console
) -> None:
    """Writes the network in a public checkpoint as a model directory.

    Args:
        checkpoint_path: The file, as `torch.save` of the public code writes it.
        directory: The model directory. It must not exist, or be empty.
        variant: A preset or a YAML file, where the user names one.
        class_names: A text file with one name per line, in the order of the logits.
        console: For what was recognised.

    Raises `UserError` if the checkpoint is damaged or of another network, naming the weights that do not fit.
    """
    require_new_folder(directory, "--to")
    checkpoint = read_public(checkpoint_path)
    recognised = recognise(checkpoint, variant)
    arch = recognised.arch
    about = _about(checkpoint, arch)
    names = about.class_names if class_names is None else _read_names(class_names, arch.classes)
    weights = checkpoint.convert(arch)
    network = SReT.empty(arch, torch.device("cpu"), weights["pos_embed"].dtype)
    network.load_state_dict(weights)
    cost = cost_of(arch)
    print_line(
        console,
        f"{checkpoint_path}: {recognised.variant}, {arch.image_size} px, {arch.classes:,} classes, "
        f"{format_quantity(cost.flops)} FLOPs, {format_quantity(cost.params)} parameters",
    )
    print_line(console, f"  groups: {recognised.reason}")
    write_model(
        directory,
        network,
        _info(
            checkpoint, recognised.variant, recognised.reason, about.preprocessing or _public_preparation(arch), names
        ),
    )
    print_line(console, f"{directory}: a model directory, for SReT.from_pretrained, timm, evaluate and export")


class _About(BaseModel):
    """What a file that was converted from a model directory says of it, beside the architecture."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    preprocessing: Preprocessing | None = None
    class_names: tuple[StrictStr, ...] | None = None


def _about(checkpoint: PublicCheckpoint, arch: ArchConfig) -> _About:
    """Returns what the file says of images and classes. Raises `UserError` if it is damaged, or does not fit."""
    if checkpoint.about is None:
        return _About()
    source = f"{checkpoint.source}: {ABOUT}"
    about = validate(_About, checkpoint.about, source)
    names, seen = about.class_names or (), about.preprocessing
    if about.class_names is not None and len(names) != arch.classes:
        raise UserError(f"{source}.class_names must have {counted(arch.classes, 'name')}, got {len(names)}")
    if len(set(names)) != len(names):
        twice = next(name for position, name in enumerate(names) if name in names[:position])
        raise UserError(f"{source}.class_names must differ, got {describe(twice)} twice")
    if seen is not None and seen.channels != arch.channels:
        raise UserError(f"{source}.preprocessing.mean must have {counted(arch.channels, 'value')}, got {seen.channels}")
    return about


def _public_preparation(arch: ArchConfig) -> Preprocessing:
    """Returns how the public code prepares images for a network."""
    channels, is_colour = arch.channels, arch.channels == 3
    return Preprocessing(
        image_size=arch.image_size,
        mean=IMAGENET_MEAN if is_colour else (0.5,) * channels,
        std=IMAGENET_STD if is_colour else (0.5,) * channels,
        interpolation="bicubic",
        crop_fraction=CROP_FRACTION,
    )


def _info(
    checkpoint: PublicCheckpoint, variant: str, reason: str, preprocessing: Preprocessing, names: tuple[str, ...] | None
) -> ModelInfo:
    provenance: dict[str, Any] = {
        "converted_from": printable(Path(checkpoint.source).name),  # UTF-8, whatever the file's name is
        "sha256": digest_of_file(Path(checkpoint.source)),
        "variant": variant,
        "groups": reason,
    }
    # Values with a path in them would publish how somebody's machine is laid out.
    arguments = {
        name: value for name, value in checkpoint.args.items() if not (isinstance(value, str) and "/" in value)
    }
    if arguments:
        provenance["public_arguments"] = arguments
    return ModelInfo(preprocessing=preprocessing, class_names=names, provenance=provenance)


def _read_names(path: Path, classes: int) -> tuple[str, ...]:
    """Returns the names in a text file, one per line. Raises `UserError` unless there is one for each class."""
    names = tuple(line.strip() for line in read_text(path, MAX_NAMES).splitlines() if line.strip())
    if len(names) != classes:
        raise UserError(f"{path}: must have one class name per line for {classes:,} classes, got {len(names):,}")
    if len(set(names)) != len(names):
        twice = next(name for position, name in enumerate(names) if name in names[:position])
        raise UserError(f"{path}: class names must differ, got {twice!r} twice")
    return names


def convert_to_public(source: Path, out: Path, force: bool, console: Console) -> None:
    """Writes the network of a model directory, or of a training's run, as a checkpoint that the public code loads.

    An existing file is replaced only with `force`. Raises `UserError` if the public code cannot express the network.
    """
    directory = find_model_directory(source)
    require_free([out], reads=[directory], force=force, option="--to-public")
    network, info = read_model(directory)
    names = None if info.class_names is None else list(info.class_names)
    write_public(out, network, {"preprocessing": info.preprocessing.model_dump(mode="json"), "class_names": names})
    print_line(console, f"{out}: the weights of {directory} under the names of the public code, under the key 'model'")
    if differences := _differences(info.preprocessing, _public_preparation(network.current_arch)):
        what = "note: the public code prepares images otherwise than this network needs"
        print_line(console, f"{what}: {'; '.join(differences)}")


def _differences(needed: Preprocessing, public: Preprocessing) -> list[str]:
    """Returns what differs between two preparations of images, in words."""
    pairs = (
        ("side ", f"{public.image_size} px", f"{needed.image_size} px"),
        ("mean ", _numbers(public.mean), _numbers(needed.mean)),
        ("deviation ", _numbers(public.std), _numbers(needed.std)),
        ("", public.interpolation, needed.interpolation),
        ("centred ", f"{100 * public.crop_fraction:.4g}%", f"{100 * needed.crop_fraction:.4g}%"),
    )
    return [f"{what}{theirs} for {ours}" for what, theirs, ours in pairs if theirs != ours]


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
