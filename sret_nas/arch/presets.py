"""The published variants as architectures (SReT paper, tables 5 and 6, and the public code).

The suffix `_unsliced` stands for the paper's `*` (no slicing); `_384` and `_512` are image sizes.
"""

from __future__ import annotations

from sret_nas.arch.config import ArchConfig, StageConfig, StemConfig
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


PRESETS: dict[str, ArchConfig] = {
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


def preset(name: str) -> ArchConfig:
    """Returns a published variant by name, e.g. `sret_t`. Raises `UserError` that lists the known names."""
    try:
        return PRESETS[name.lower().replace("-", "_")]
    except KeyError:
        raise UserError(f"unknown preset {name!r}; the presets are {', '.join(PRESETS)}") from None
