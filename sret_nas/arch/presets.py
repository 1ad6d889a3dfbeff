"""Networks by name: the published variants, DeiT-Ti with recursion, and a very deep network.

`PUBLISHED` has the variants of the SReT paper (tables 5 and 6) and of the public code. There, the suffix `_unsliced`
stands for the paper's `*` (no slicing); `_384` and `_512` are image sizes.
"""

from __future__ import annotations

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import StageConfig, StemConfig
from sret_nas.errors import UserError

Groups = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Slices of the attention in both recursions of each of the three stages."""

_UNSLICED: Groups = ((1, 1), (1, 1), (1, 1))
_SLICED: Groups = ((8, 2), (4, 1), (1, 1))
_SLICED_16_14_1: Groups = ((16, 1), (14, 1), (1, 1))


def _variant(
    width: int, heads: int, mlp_ratio: float, nll_ratio: float, groups: Groups, drop_path: float, image_size: int
) -> ArchConfig:
    """Returns a variant of three stages, with the width and the number of heads of the first."""
    stages = tuple(
        StageConfig(
            width=width * 2**stage_index,
            heads=heads * 2**stage_index,
            blocks=blocks,
            recursions=2,
            groups=groups[stage_index],
            mlp_ratio=mlp_ratio,
            nll_ratio=nll_ratio,
        )
        for stage_index, blocks in enumerate((2, 5, 3))
    )
    return ArchConfig(stages=stages, stem=StemConfig(width=width // 2), image_size=image_size, drop_path=drop_path)


def _tiny(groups: Groups, image_size: int = 224) -> ArchConfig:
    return _variant(64, 2, 3.6, 1.0, groups, 0.1, image_size)


def _less_tiny(groups: Groups) -> ArchConfig:
    return _variant(64, 2, 4.0, 1.0, groups, 0.1, 224)


def _small(groups: Groups, image_size: int = 224) -> ArchConfig:
    return _variant(126, 3, 3.0, 2.0, groups, 0.2, image_size)


def _deit_tiny(recursions: int) -> ArchConfig:
    """Returns DeiT-Ti (Touvron et al., 2021) with each of its 12 blocks applied several times, and else unchanged."""
    stage = StageConfig(
        width=192, heads=3, blocks=12, recursions=recursions, groups=(1,) * recursions, nll="none", mlp_ratio=4.0
    )
    stem = StemConfig(width=96, kind="patch", strides=(4, 2, 2))
    return ArchConfig(stages=(stage,), stem=stem, drop_path=0.1, residual="plain", head="class_token")


def _deep() -> ArchConfig:
    """Returns a network of 108 block applications, the depth of the paper's deepest one.

    Its width was not published: this is SReT-T's. The stages have SReT-T's shares of the depth.
    """
    tiny = _tiny(_SLICED)
    stages = (s.model_copy(update={"blocks": blocks}) for s, blocks in zip(tiny.stages, (11, 27, 16), strict=True))
    return tiny.model_copy(update={"stages": tuple(stages)})


PUBLISHED: dict[str, ArchConfig] = {
    "sret_t": _tiny(_SLICED),
    "sret_t_unsliced": _tiny(_UNSLICED),
    "sret_lt": _less_tiny(_SLICED),
    "sret_lt_unsliced": _less_tiny(_UNSLICED),
    "sret_lt_16_14_1": _less_tiny(_SLICED_16_14_1),
    "sret_s": _small(_SLICED),
    "sret_s_unsliced": _small(_UNSLICED),
    "sret_t_unsliced_384": _tiny(_UNSLICED, 384),
    "sret_s_unsliced_384": _small(_UNSLICED, 384),
    "sret_s_unsliced_512": _small(_UNSLICED, 512),
}

PRESETS: dict[str, ArchConfig] = {
    **PUBLISHED,
    **{f"deit_tiny_x{recursions}": _deit_tiny(recursions) for recursions in (1, 2, 3, 4)},
    "sret_deep_108": _deep(),
}


def preset(name: str) -> ArchConfig:
    """Returns a network by name, e.g. `sret_t`. Raises `UserError` that lists the known names."""
    if not isinstance(name, str) or not is_preset(name):
        raise UserError(f"unknown preset {name!r}; the presets are {', '.join(PRESETS)}")
    return PRESETS[_key(name)]


def is_preset(name: str) -> bool:
    """Returns whether a network has this name."""
    return _key(name) in PRESETS


def _key(name: str) -> str:
    return name.lower().replace("-", "_")
