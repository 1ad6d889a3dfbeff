"""Registers SReTs as models of timm: every preset by its name, and `sret` for any architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.presets import PRESETS
from sret_nas.errors import UserError
from sret_nas.nn.model_directory import ends_of
from sret_nas.nn.network import SReT
from sret_nas.nn.position_embedding import resized_state

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the channels of ImageNet's images, for pixels scaled to [0, 1]."""

ANY = "sret"
"""The name of a network of any architecture, which `arch` gives."""


def _default_cfg(arch: ArchConfig) -> dict[str, Any]:
    """Returns timm's data about a network. The public weights are not on a hub; see `sret-nas convert`."""
    return {
        "num_classes": arch.classes,
        "input_size": (arch.channels, arch.image_size, arch.image_size),
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 0.875 if arch.image_size == 224 else 1.0,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        **ends_of(arch),
    }


def build_network(
    *,
    arch: ArchConfig | Mapping[str, Any] | str | Path,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | Sequence[int] | None = None,
    drop_rate: float = 0.0,
    drop_path_rate: float | None = None,
    global_pool: str = "avg",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> SReT:
    """Returns a new network, from the arguments that timm's factory passes on.

    Args:
        arch: The architecture, as data or as the name of a YAML file.
        num_classes: Number of classes; 0 for features without a head, None for the architecture's own.
        in_chans: Channels of the images; None for the architecture's own.
        img_size: Side of the images in pixels, or height and width; None for the architecture's own.
        drop_rate: Rate of dropout before the head.
        drop_path_rate: Rate of stochastic depth; None for the architecture's own.
        global_pool: `avg`, whatever the head sees, or empty for features in place of logits.
        device: Where the network lies.
        dtype: Type of its weights.

    Raises `UserError` for an architecture that is not valid, or images that are not square.
    """
    if isinstance(img_size, list | tuple) and len(img_size) == 2:  # a list where a configuration file has it
        if img_size[0] != img_size[1]:
            raise UserError(f"images must be square, got {img_size[0]} x {img_size[1]} pixels")
        img_size = img_size[0]
    changes = {"channels": in_chans, "image_size": img_size, "drop_path": drop_path_rate}
    changes |= {"classes": num_classes or None}
    described = _described(arch)
    given = {name: value for name, value in changes.items() if value is not None}
    network = SReT(ArchConfig.from_dict({**described.to_dict(), **given}, "the model's arguments"))
    network.drop_rate = drop_rate
    if num_classes == 0 or global_pool != "avg":
        classes = network.num_classes if num_classes is None else num_classes
        network.reset_classifier(classes, None if global_pool == "avg" else global_pool)
    return network.to(device=device, dtype=dtype)


def _described(arch: ArchConfig | Mapping[str, Any] | str | Path) -> ArchConfig:
    if isinstance(arch, ArchConfig):
        return arch
    if isinstance(arch, Mapping):
        return ArchConfig.from_dict(dict(arch), "arch")
    return ArchConfig.from_yaml(arch)


def fit_state(state: Mapping[str, Any], network: SReT) -> dict[str, Tensor]:
    """Returns a checkpoint's weights for a network whose images may have another size, out of what wraps them."""
    for wrapper in ("state_dict", "model"):
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    return resized_state(state, network.arch) if "pos_embed" in state else dict(state)


def create(variant: str, pretrained: bool, arch: Any, **given: Any) -> Any:
    """Returns a network, or its features, as timm's factory builds models."""
    given = {name: value for name, value in given.items() if name not in ("scriptable", "exportable", "no_jit")}
    described = _described(arch)
    if given.get("pretrained_cfg") is None:
        # timm's factory would take what is not given from the variant's data, which know nothing of `arch`.
        size = described.image_size
        own = {"num_classes": described.classes, "input_size": (described.channels, size, size), **ends_of(described)}
        given["pretrained_cfg_overlay"] = own | (given.get("pretrained_cfg_overlay") or {})
    return build_model_with_cfg(
        build_network,
        variant,
        pretrained,
        arch=described.to_dict(),
        pretrained_filter_fn=fit_state,
        feature_cfg={"out_indices": tuple(range(len(described.stages))), "feature_cls": "getter"},
        **{"num_classes": described.classes, "in_chans": described.channels} | given,
    )


def _entrypoint(name: str, arch: ArchConfig) -> Callable[..., Any]:
    def entrypoint(pretrained: bool = False, **given: Any) -> Any:
        return create(name, pretrained, given.pop("arch", arch), **given)

    entrypoint.__name__ = entrypoint.__qualname__ = name
    entrypoint.__module__ = __name__
    entrypoint.__doc__ = f"Returns the preset {name}."
    return entrypoint


def sret(pretrained: bool = False, *, arch: Any = None, **given: Any) -> Any:
    """Returns a network of any architecture: `timm.create_model("sret", arch="best.yaml")`.

    Raises `UserError` without an architecture, or for one that cannot be.
    """
    if arch is None:
        raise UserError(f"the model {ANY!r} needs an architecture: arch= with the name of a YAML file, or its content")
    return create(ANY, pretrained, arch, **given)


_CFGS: dict[str, Any] = {name: _default_cfg(arch) for name, arch in {**PRESETS, ANY: PRESETS["sret_t"]}.items()}
default_cfgs = generate_default_cfgs(_CFGS)
"""timm's data about every model; `register_model` reads it from the module of an entry point."""

MODELS = (*PRESETS, ANY)
"""The names of all models."""

for _name, _arch in PRESETS.items():
    globals()[_name] = register_model(_entrypoint(_name, _arch))
register_model(sret)
