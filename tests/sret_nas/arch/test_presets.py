"""The published variants, against the table of the paper and the public code."""

from __future__ import annotations

import pytest

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.presets import PRESETS, PUBLISHED, preset
from sret_nas.errors import UserError

T, S = ((64, 128, 256), (2, 4, 8)), ((126, 252, 504), (3, 6, 12))
SLICED, UNSLICED, SLICED_16_14_1 = ((8, 2), (4, 1), (1, 1)), ((1, 1),) * 3, ((16, 1), (14, 1), (1, 1))

# Widths and heads, MLP ratio, NLL ratio, groups of loops 1 and 2 by stage, image size, drop path (its recipe).
TABLE = {
    "sret_t": (T, 3.6, 1.0, SLICED, 224, 0.1),
    "sret_t_unsliced": (T, 3.6, 1.0, UNSLICED, 224, 0.1),
    "sret_lt": (T, 4.0, 1.0, SLICED, 224, 0.1),
    "sret_lt_unsliced": (T, 4.0, 1.0, UNSLICED, 224, 0.1),
    "sret_lt_16_14_1": (T, 4.0, 1.0, SLICED_16_14_1, 224, 0.1),
    "sret_s": (S, 3.0, 2.0, SLICED, 224, 0.2),
    "sret_s_unsliced": (S, 3.0, 2.0, UNSLICED, 224, 0.2),
    "sret_t_unsliced_384": (T, 3.6, 1.0, UNSLICED, 384, 0.1),
    "sret_s_unsliced_384": (S, 3.0, 2.0, UNSLICED, 384, 0.2),
    "sret_s_unsliced_512": (S, 3.0, 2.0, UNSLICED, 512, 0.2),
}


def test_every_published_row_is_a_preset() -> None:
    assert list(PUBLISHED) == list(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_is_the_row_of_the_table(name: str) -> None:
    (widths, heads), mlp_ratio, nll_ratio, groups, image_size, drop_path = TABLE[name]
    arch = preset(name)
    assert tuple(stage.width for stage in arch.stages) == widths
    assert tuple(stage.heads for stage in arch.stages) == heads
    assert tuple(stage.blocks for stage in arch.stages) == (2, 5, 3)
    assert tuple(stage.groups for stage in arch.stages) == groups
    assert (arch.image_size, arch.drop_path, arch.classes, arch.channels) == (image_size, drop_path, 1000, 3)
    assert (arch.stem.width, arch.stem.strides) == (widths[0] // 2, (2, 2, 2))
    rest = {(stage.recursions, stage.loop, stage.nll, stage.nll_ratio, stage.mlp_ratio) for stage in arch.stages}
    assert rest == {(2, "internal", "every", nll_ratio, mlp_ratio)}


def test_presets_are_distinct_networks() -> None:
    assert len({arch.arch_id for arch in PRESETS.values()}) == len(PRESETS)


@pytest.mark.parametrize("name", TABLE)
def test_survives_plain_data(name: str) -> None:
    assert ArchConfig.from_dict(preset(name).to_dict()) == preset(name)


@pytest.mark.parametrize("spelling", ["sret_t", "SRET_T", "SReT-T"])
def test_name_is_read_however_it_is_spelled(spelling: str) -> None:
    assert preset(spelling) is PRESETS["sret_t"]


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown preset 'sret_b'; the presets are sret_t, sret_t_unsliced, sret_lt,"):
        preset("sret_b")
