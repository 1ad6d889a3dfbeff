"""Recognises which published variant a public checkpoint holds.

Shapes tell widths, blocks, recursions, hidden widths, classes and the size of the images. They do not tell into how
many groups the attention is sliced, because slicing owns no weights. That comes from the user, from what the file says
of its training, or from what was published.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.presets import PUBLISHED, preset
from sret_nas.arch.sizes import token_sides
from sret_nas.errors import ConfigError, UserError
from sret_nas.nn.public_checkpoints import PublicCheckpoint, differences

_PUBLIC_NAME = re.compile(r"SReT_(T|LT|S)(_wo_slice)?(_distill)?(_finetune_\d+)?", re.IGNORECASE)
"""Names that the public code registers with timm."""

_PIXELS_PER_TOKEN = 8
"""Pixels of a token's side after the public stem."""

_SLICED_SIZES = (224,)
"""Image sizes for which weights of sliced networks were published; those for 384 and 512 px are unsliced."""


@dataclass(frozen=True)
class Recognised:
    """An architecture, and how it was found."""

    arch: ArchConfig
    variant: str
    """Name of the preset or the YAML file."""
    reason: str
    """Where the groups of the attention come from, in words."""


def recognise(checkpoint: PublicCheckpoint, variant: str | None = None) -> Recognised:
    """Returns the architecture of a public checkpoint.

    Args:
        checkpoint: what the file holds.
        variant: a preset or a YAML file, if the user names one. A preset's classes, channels and image size are
            replaced by those of the weights.

    Raises `UserError`, naming the weights that do not fit.
    """
    if variant is not None:
        arch = _named(variant, checkpoint)
        _require_fit(checkpoint, arch, f"--variant {variant}")
        return Recognised(arch, variant, f"as in --variant {variant}")
    if checkpoint.architecture is not None:
        arch = ArchConfig.from_dict(checkpoint.architecture, f"{checkpoint.source}: architecture")
        _require_fit(checkpoint, arch, "the architecture in the file")
        names = {known.arch_id: name for name, known in PUBLISHED.items()}
        return Recognised(arch, names.get(arch.arch_id, arch.arch_id), "written in the file by `convert --to-public`")
    fitting = [name for name in PUBLISHED if not differences(checkpoint.state, _adapted(PUBLISHED[name], checkpoint))]
    if not fitting:
        raise _unrecognised(checkpoint)
    named = _preset_of_public_name(checkpoint.args.get("model"))
    if named is not None:
        arch = _adapted(PUBLISHED[named], checkpoint)
        what = f"the public {checkpoint.args['model']}"
        _require_fit(checkpoint, arch, f"{what}, which the file's arguments name")
        return Recognised(arch, named, f"those of {what}, which the file's arguments name")
    return _default(fitting, checkpoint)


def _default(fitting: list[str], checkpoint: PublicCheckpoint) -> Recognised:
    """Returns the variant that was published for the size of the images, if nothing says which groups are meant."""
    size = _image_size(checkpoint)
    is_sliced = size in _SLICED_SIZES
    of_224 = [name for name in fitting if PUBLISHED[name].image_size == 224]
    base = next(name for name in of_224 if name.endswith("_unsliced") != is_sliced)
    published = f"{base}_{size}"
    name = published if published in PUBLISHED else base
    others = " or ".join(other for other in of_224 if other != base)
    return Recognised(
        _adapted(PUBLISHED[name], checkpoint),
        name,
        f"assumed {'sliced' if is_sliced else 'unsliced'} for {size} px, because the weights do not tell; for other "
        f"groups, name --variant {others}",
    )


def _named(variant: str, checkpoint: PublicCheckpoint) -> ArchConfig:
    path = Path(variant)
    if path.suffix in (".yaml", ".yml"):
        return ArchConfig.from_yaml(path)
    return _adapted(preset(variant), checkpoint)


def _adapted(arch: ArchConfig, checkpoint: PublicCheckpoint) -> ArchConfig:
    """Returns an architecture with the classes, channels and image size of the weights, where these are legal."""
    head, first = checkpoint.state.get("head.bias"), checkpoint.state.get("patch_embed.conv1.weight")
    changes: dict[str, Any] = {"image_size": _image_size(checkpoint)}
    if head is not None and head.dim() == 1:
        changes["classes"] = len(head)
    if first is not None and first.dim() == 4:
        changes["channels"] = first.shape[1]
    try:
        return ArchConfig.from_dict({**arch.to_dict(), **changes}, "the checkpoint")
    except ConfigError:  # e.g. no class at all, which the comparison of shapes then names
        return arch


def _image_size(checkpoint: PublicCheckpoint) -> int:
    """Returns the image size: the training's, if the position embedding fits it, else 8 pixels per token."""
    embedding = checkpoint.state.get("pos_embed")
    if embedding is None or embedding.dim() != 4:
        return 224
    side, asked = int(embedding.shape[-1]), checkpoint.args.get("input_size")
    if type(asked) is int and 8 <= asked <= 4096 and token_sides(asked, (2, 2, 2), 1)[0] == side:
        return asked
    return _PIXELS_PER_TOKEN * side


def _preset_of_public_name(name: object) -> str | None:
    """Returns the preset of a network of the public code by its name there, or None if it is no such name."""
    match = _PUBLIC_NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return None
    return f"sret_{match[1].lower()}{'_unsliced' if match[2] else ''}"


def _require_fit(checkpoint: PublicCheckpoint, arch: ArchConfig, what: str) -> None:
    if problems := differences(checkpoint.state, arch):
        raise UserError(f"{checkpoint.source} does not fit {what}: {'; '.join(problems)}")


def _unrecognised(checkpoint: PublicCheckpoint) -> UserError:
    """Returns an error that names what differs from the nearest published variant."""
    adapted = {name: _adapted(arch, checkpoint) for name, arch in PUBLISHED.items()}
    nearest = min(adapted, key=lambda name: len(differences(checkpoint.state, adapted[name], limit=None)))
    problems = "; ".join(differences(checkpoint.state, adapted[nearest]))
    return UserError(
        f"{checkpoint.source} fits no published variant; compared with {nearest}: {problems}; "
        "for another network, describe it in a YAML file and name that by --variant"
    )
